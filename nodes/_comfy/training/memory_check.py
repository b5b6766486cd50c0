"""How much memory training takes, asked before the first step: better a refusal now than an out-of-memory in an
hour."""

from __future__ import annotations

import logging

import comfy.model_management as mm

from ....det_core.models.families import DiTSpec

logger = logging.getLogger(__name__)


def check_fits(needed: int, patcher, spec: DiTSpec, checkpointing: bool) -> None:
    """Refuse what cannot fit even with all weights offloaded; warn where offloading will make it slow.

    Raises: ValueError with advice.
    """
    device = patcher.load_device
    total = mm.get_total_memory(device)
    weights = patcher.model_size()
    least = needed + weights // max(1, spec.num_blocks)  # one block's weights are always there
    if mm.is_device_cpu(device):
        least = needed + weights
    if least > total:
        advice = (
            "use fewer or smaller frames"
            if checkpointing
            else "switch gradient checkpointing on, or use fewer or smaller frames"
        )
        raise ValueError(
            f"training on these latents needs about {least / 2**30:.1f} GB and {device} has {total / 2**30:.1f} "
            f"GB: {advice}. "
            "Nothing was trained."
        )
    if needed + weights > total:
        logger.warning(
            "training needs about %.1f GB beside %.1f GB of weights on a device of %.1f GB: weights will be "
            "offloaded, steps will be slow",
            needed / 2**30,
            weights / 2**30,
            total / 2**30,
        )

"""How much memory training takes, asked before the first step: better a refusal now than an out-of-memory in an
hour."""

from __future__ import annotations

import logging
import math

import comfy.model_management as mm
import torch

from ...det_core.dit import DiTSpec

logger = logging.getLogger(__name__)

TEXT_TOKENS = 512  # upper bound of what text encoders give; a small share of a video's tokens
INSIDE_BLOCK = 24  # (tokens x dim) tensors that autograd keeps inside one block: projections, attention, 4x wide MLP
ADAPTER_BYTES = 16  # per parameter: float32 weight, gradient and two moments


def training_bytes(
    spec: DiTSpec, latent_shape: torch.Size, mid_dim: int, kernel_size: int, dtype: torch.dtype, checkpointing: bool
) -> int:
    """Estimate of what one training step keeps beside the base model's weights, in bytes."""
    tokens = math.prod(spec.grid(latent_shape)) + TEXT_TOKENS
    size = max(2, dtype.itemsize)
    stream = tokens * spec.dim * size
    kernels = spec.num_blocks * (2 * kernel_size + 2) * tokens * mid_dim * size
    blocks = (
        spec.num_blocks * stream + INSIDE_BLOCK * stream if checkpointing else spec.num_blocks * INSIDE_BLOCK * stream
    )
    adapter = 2 * spec.num_blocks * spec.dim * mid_dim * kernel_size * ADAPTER_BYTES
    return blocks + (0 if checkpointing else kernels) + adapter


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

"""How much memory training takes, from shapes alone: which checkpointing fits, asked before the first step."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from ..families import DiTSpec
from .checkpointing import POLICIES
from .precision import computed_in, stored_in

if TYPE_CHECKING:
    from ..denoiser import Denoiser

log = logging.getLogger(__name__)

ADAPTER_BYTES = 16  # a trained parameter: float32 weight, gradient and AdamW's two moments
AVERAGE_BYTES = 4
MARGIN = 1.15  # of an estimate, for what it may be wrong by


class StepSize(Protocol):
    """What a training's configuration says about the size of a step."""

    batch: int
    bf16: bool
    average: float

    @property
    def kernel_shape(self) -> dict[str, int | None]:
        """`mid_dim` and `kernel_size` of what is trained, where it has kernels."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training takes beside the base model's weights."""

    activations: int
    adapter: int  # weights, gradients, moments, and an average of the weights where one is kept

    @property
    def total(self) -> int:
        return self.activations + self.adapter


def training_memory(
    spec: DiTSpec,
    latent_shape: tuple[int, ...],
    *,
    policy: str,
    dtype: torch.dtype,
    mid_dim: int | None = None,
    kernel_size: int | None = None,
    batch: int = 1,
    text_tokens: int | None = None,
    mlp_ratio: float = 4.0,
    parameters: int | None = None,
    average: float = 0.0,
) -> TrainingMemory:
    """Estimate the peak of a training step of a motion adapter, within 15% of measured.

    Args:
        latent_shape: (B, C, T, H, W) or (T, H, W) of the latents; B is not looked at.
        policy:       of `checkpointing.POLICIES`.
        dtype:        of the tokens: the base model's, or bfloat16 under autocast.
        mid_dim, kernel_size: of the kernels; None means the base model's paper values.
        text_tokens:  that run through the blocks with the video's (CogVideoX, HunyuanVideo); None: as many as usual.
        mlp_ratio:    width of a block's MLP over the tokens' width; see `mlp_ratio_of`.
        parameters:   trained, if it is no motion adapter.
        average:      of the weights, as in the configuration: any but 0 is one more number a parameter.
    """
    costs = spec.family.costs_of(spec, 8 * dtype.itemsize)
    defaults, blocks = spec.defaults, spec.num_blocks // (2 if spec.boundary else 1)  # one expert works at a time
    mid_dim = defaults.mid_dim if mid_dim is None else mid_dim
    kernel_size = defaults.kernel_size if kernel_size is None else kernel_size
    video, tokens = math.prod(spec.grid(tuple(latent_shape))), tokens_of(spec, latent_shape, text_tokens)
    stream = batch * tokens * spec.dim * dtype.itemsize
    # A kernel keeps its hidden before and after the GELU, and its two weights as the matrix products take them.
    kernel = (2 * batch * video + 2 * kernel_size * spec.dim) * mid_dim * dtype.itemsize
    inside = max(costs.inside + 3 * mlp_ratio, costs.least + mlp_ratio)
    if policy == "none":
        units = blocks * (costs.block + mlp_ratio) - costs.first + costs.last + 2 * mlp_ratio
        activations = units * stream + blocks * kernel
    elif policy == "attention":
        activations = (blocks * costs.attention + inside + 1 - costs.attention) * stream + kernel
    elif policy == "full":
        activations = (blocks + inside) * stream + kernel
    else:
        raise ValueError(f"checkpointing is one of {', '.join(POLICIES)}; got {policy!r}")
    maps = blocks * costs.map_block if policy == "none" else costs.map_inside
    activations += maps * stream * tokens
    count = 2 * spec.num_blocks * spec.dim * mid_dim * kernel_size if parameters is None else parameters
    return TrainingMemory(int(activations), count * (ADAPTER_BYTES + (AVERAGE_BYTES if average else 0)))


def tokens_of(spec: DiTSpec, latent_shape: torch.Size, text_tokens: int | None = None) -> int:
    """How many tokens run through a model's blocks. text_tokens: as for `training_memory`."""
    text = text_tokens if text_tokens is not None and spec.family.text_tokens else spec.family.text_tokens
    return math.prod(spec.grid(tuple(latent_shape))) + text


def mlp_ratio_of(transformer: nn.Module, spec: DiTSpec) -> float:
    """Width of a block's MLP over the tokens' width."""
    return spec.family.mlp_ratio(transformer, spec)


def free_bytes(device: torch.device) -> int | None:
    """Memory of `device` that nothing uses, or None where that cannot be known."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def choose_policy(denoiser: Denoiser, adapter: nn.Module, latent_shape: torch.Size, config: StepSize) -> str:
    """The fastest checkpointing that fits the free memory of the denoiser's device.

    Raises: ValueError that says what would fit, if nothing does.
    """
    offloaded = next(denoiser.transformer.parameters()).device.type == "meta"
    policies = ("full",) if offloaded else POLICIES
    free = free_bytes(denoiser.device)
    if free is None:
        return policies[0]
    needed = {policy: _needed(denoiser, adapter, latent_shape, config, policy) for policy in policies}
    for policy in policies:
        if needed[policy] * MARGIN <= free:
            log.debug("checkpointing %s: %.2f of %.2f GB free", policy, needed[policy] / 2**30, free / 2**30)
            return policy
    if needed["full"] <= free:
        log.warning(
            "training takes about all of the %.1f GB that are free: it may stop for want of memory", free / 2**30
        )
        return "full"
    raise ValueError(
        f"training needs about {needed['full'] / 2**30:.1f} GB beside the base model, and {denoiser.device} has "
        f"{free / 2**30:.1f} GB free: {_advice(denoiser, adapter, latent_shape, config, free)}. Nothing was trained."
    )


def _needed(denoiser: Denoiser, adapter: nn.Module, shape: torch.Size, config: StepSize, policy: str) -> int:
    dtype = computed_in(stored_in(denoiser.transformer), config.bf16)
    return training_memory(
        denoiser.spec,
        shape,
        policy=policy,
        dtype=dtype,
        batch=config.batch,
        average=config.average,
        mlp_ratio=mlp_ratio_of(denoiser.transformer, denoiser.spec),
        parameters=sum(p.numel() for p in adapter.parameters() if p.requires_grad),
        **config.kernel_shape,
    ).total


def _advice(denoiser: Denoiser, adapter: nn.Module, shape: torch.Size, config: StepSize, free: int) -> str:
    """What does fit: fewer frames, a smaller picture, or the weights off the device, with full checkpointing."""
    spec, (time, height, width) = denoiser.spec, shape[-3:]

    def needed(time: int, height: int, width: int) -> float:
        size = torch.Size((*shape[:2], time, height, width))
        return _needed(denoiser, adapter, size, config, "full") * MARGIN

    def fits(*size: int) -> bool:
        return needed(*size) <= free

    options = []
    frames = next((t for t in range(time - 1, 1, -1) if fits(t, height, width)), None)
    if frames:
        legal, _ = spec.frames.nearest(spec.frames.frames(frames))
        options.append(f"{legal} frames at this size")
    scale = next((s for s in (0.75, 0.5, 0.35, 0.25) if fits(time, round(height * s), round(width * s))), None)
    if scale:
        cell = spec.spatial_compression * spec.patch[1]
        size = (round(side * scale * spec.spatial_compression / cell) * cell for side in (height, width))
        options.append("all frames at " + "x".join(map(str, size)))
    weights = sum(p.numel() * p.element_size() for p in denoiser.transformer.parameters() if p.device.type != "meta")
    in_turn = weights * (1 - 2 / spec.num_blocks)  # about, of all but the block at work and the next
    if denoiser.device.type != "cpu" and needed(time, height, width) <= free + in_turn:
        options.append("this video with --preset low_vram of train and transfer")
    return ("what fits is " + " or ".join(options)) if options else "no size of this video fits"

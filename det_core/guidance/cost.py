"""What guidance costs, from shapes alone: the memory of its gradient, and its share of a sampling's arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ..models.compute.memory import tokens_of, training_memory
from ..models.families import DiTSpec
from .guide import Plan


def guidance_memory(
    spec: DiTSpec,
    latent_shape: torch.Size,
    block: int,
    *,
    policy: str,
    dtype: torch.dtype,
    mlp_ratio: float = 4.0,
    text_tokens: int | None = None,
) -> int:
    """Bytes that the gradient through blocks 0 to `block` takes beside the weights, within 15% of measured.

    Where blocks are computed again ("full") it is a training step's of a model that ends there (`training_memory`),
    which peaks in one block's backward. Where all is kept, the last block has that peak, and those before it keep what
    a training's blocks keep, but for the sum with their kernel's output. The first one saves nothing: unlike in
    training, its input needs a gradient.
    """
    block, _ = _in_one_call(spec, block)
    ends = 1 if policy == "none" else block + 1
    peak = training_memory(
        replace(spec, taps=spec.taps[:ends], boundary=None), latent_shape, policy="full", dtype=dtype,
        mlp_ratio=mlp_ratio, batch=latent_shape[0], mid_dim=0, parameters=0, text_tokens=text_tokens,
    )  # fmt: skip
    if policy != "none":
        return peak.total
    costs, tokens = spec.family.costs_of(spec, 8 * dtype.itemsize), tokens_of(spec, latent_shape, text_tokens)
    stream = latent_shape[0] * tokens * spec.dim * dtype.itemsize
    return peak.total + int(block * (costs.block + mlp_ratio - 1 + costs.map_block * tokens) * stream)


def gradient_pass(
    spec: DiTSpec, latent_shape: torch.Size, block: int, *, recomputed: bool, mlp_ratio: float = 4.0, text_tokens=None
) -> float:
    """Floating-point operations of one update over those of one call of the whole model.

    The weights are frozen, so backward costs a linear layer as much as forward, and attention twice as much.
    Args: recomputed: blocks before `block` are computed again during backward.
    """
    video = math.prod(spec.grid(latent_shape))
    tokens = video + (spec.family.text_tokens if text_tokens is None else text_tokens)
    linear, attention = (4 + 2 * mlp_ratio) * spec.dim, 2 * tokens  # of a block, over 2 x tokens x dim
    backward = (linear + 2 * attention) / (linear + attention)
    block, blocks = _in_one_call(spec, block)
    passes = (block + 1) * (1 + backward) + (block if recomputed else 0)
    return passes / blocks


def _in_one_call(spec: DiTSpec, block: int) -> tuple[int, int]:
    """(number of `block`, how many there are) among the blocks that one call runs: of two experts, those of one."""
    turns = max(1, len(spec.experts))
    return block // turns, spec.num_blocks // turns


def guidance_share(
    spec: DiTSpec,
    latent_shape: torch.Size,
    plan: Plan,
    *,
    steps: int,
    cfg: bool = True,
    recomputed: bool = True,
    mlp_ratio: float = 4.0,
) -> float:
    """What guidance adds to a sampling of `steps` steps, as a share of it; the source is looked at anew in each.

    Args: cfg: each step calls the model twice.
    """
    if plan.needs_gradient:
        update = gradient_pass(spec, latent_shape, plan.block, recomputed=recomputed, mlp_ratio=mlp_ratio)
        block, blocks = _in_one_call(spec, plan.block)
        added = plan.updates * update + (block + 1) / blocks
    else:
        added = plan.updates * (1 + cfg)
    return added / (steps * (1 + cfg))

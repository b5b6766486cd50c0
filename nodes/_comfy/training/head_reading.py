"""Read the attention heads of ComfyUI's own models: q and k as its attention function gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from ....det_core.fym.head_scores import HeadScores
from ....det_core.models.families import DiTSpec
from ....det_core.models.families.spec import video_slice
from ....det_core.models.overriding import overridden
from .denoiser import ComfyDenoiser


@contextmanager
def watched_model(denoiser: ComfyDenoiser, scores: HeadScores) -> Iterator[None]:
    """Inside, each forward of the model (batch 1) adds the self-attention of every block to `scores`.

    The first attention call after a block's tap is its self-attention; where its video tokens are, the spec says. A
    replaced attention (SageAttention and the like) still computes the result.
    """
    reader = _HeadReader(denoiser.spec, scores, denoiser.attention_override)
    modules = [denoiser.transformer.get_submodule(tap.input) for tap in denoiser.spec.taps]
    pairs = [(module, partial(reader.enter, block, module.forward)) for block, module in enumerate(modules)]
    with overridden(pairs), denoiser.options(optimized_attention_override=reader):
        yield


class _HeadReader:
    """Shows q and k of a block's first attention call after its tap: an `optimized_attention_override`."""

    def __init__(self, spec: DiTSpec, scores: HeadScores, override: Callable | None):
        """override: what the MODEL itself replaces ComfyUI's attention with."""
        self.spec, self.scores, self.override = spec, scores, override
        self.block: int | None = None  # whose tap was passed and whose attention was not called yet

    def enter(self, block: int, forward: Callable, *args, **kwargs):
        self.block = block
        return forward(*args, **kwargs)

    def __call__(self, attention: Callable, q: torch.Tensor, k: torch.Tensor, *args, **kwargs):
        if self.block is not None:
            block, self.block = self.block, None
            heads = kwargs["heads"] if "heads" in kwargs else args[1]  # args: v, heads, ...
            observed = [_video(x, heads, kwargs.get("skip_reshape"), self.spec, self.scores) for x in (q, k)]
            self.scores.observe(block, *observed)
        if self.override is not None:
            return self.override(attention, q, k, *args, **kwargs)
        return attention(q, k, *args, **kwargs)


def _video(x, heads: int, split: bool | None, spec: DiTSpec, scores: HeadScores):
    """q or k, (1, tokens, heads * width) or already split (1, heads, tokens, width) -> (heads, video tokens, width)."""
    if not split:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return x[0, :, video_slice(spec.attention, x.shape[2], scores.grid, "attention")]

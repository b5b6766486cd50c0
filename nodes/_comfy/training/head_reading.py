"""Read the attention heads of ComfyUI's own models: q and k as its attention function gets them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    current: list[int] = []
    earlier = denoiser.attention_override

    def entering(forward, block: int):
        def enter(*args, **kwargs):
            current[:] = [block]
            return forward(*args, **kwargs)

        return enter

    def read(attention, q, k, *args, **kwargs):
        if current:
            heads = kwargs["heads"] if "heads" in kwargs else args[1]  # args: v, heads, ...
            observed = [_video(x, heads, kwargs.get("skip_reshape"), denoiser.spec, scores) for x in (q, k)]
            scores.observe(current.pop(), *observed)
        if earlier is not None:
            return earlier(attention, q, k, *args, **kwargs)
        return attention(q, k, *args, **kwargs)

    modules = [denoiser.transformer.get_submodule(tap.input) for tap in denoiser.spec.taps]
    pairs = [(module, entering(module.forward, block)) for block, module in enumerate(modules)]
    with overridden(pairs), denoiser.options(optimized_attention_override=read):
        yield


def _video(x, heads: int, split: bool | None, spec: DiTSpec, scores: HeadScores):
    """q or k, (1, tokens, heads * width) or already split (1, heads, tokens, width) -> (heads, video tokens, width)."""
    if not split:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return x[0, :, video_slice(spec.attention, x.shape[2], scores.grid, "attention")]

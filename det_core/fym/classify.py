"""Classify the heads of a model on the source video: noise it, run the model, watch its attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import nn

from ..models.attention_calls import AttentionCalls, torch_attention
from ..models.denoiser import Condition, Denoiser
from ..models.families import DiTSpec, spec_for, unwrapped
from ..models.families.projections import head_count
from ..models.families.spec import video_slice
from ..models.overriding import Forward, overridden
from .head_scores import HeadScores
from .heads import HeadMap


@torch.no_grad()
def classify_heads(
    denoiser: Denoiser,
    latents: torch.Tensor,
    cond: Condition,
    *,
    t: float = 900.0,
    draws: int = 3,
    rows: int = 256,
    rule: str = "balanced",
    seed: int = 0,
    watch: Callable[[HeadScores], AbstractContextManager] | None = None,
    on_draw: Callable[[int, int], None] | None = None,
) -> HeadMap:
    """Score every head of every block on a noised source video.                 (Follow-Your-Motion, first stage)

    The released code looks once, at its second noisiest step; averaging a few draws of noise is steadier.

    Args:
        latents: (1, C, T, H, W) of the source in the model's space.
        cond: the encoded caption of the source, batch 1.
        t: noise level, 0 (clean) to 1000 (noise).
        draws: forwards of the model, each with its own noise.
        rows: query rows a block and draw; each draw reads other ones.
        watch: context in which forwards add their attention to the scores it is given; None for a diffusers
            transformer (`watched_attention`).
        on_draw: called as on_draw(done, total) after each forward; may raise to stop.
    Raises: ValueError if the video has a single frame, or if the model's attention cannot be read head by head.
    """
    transformer = unwrapped(denoiser.transformer)
    spec, grid = denoiser.spec, denoiser.spec.grid(latents.shape)
    rows_generator, generator = torch.Generator().manual_seed(seed + 1), torch.Generator().manual_seed(seed)
    scores = HeadScores(spec.num_blocks, head_count(transformer, spec), grid, rows, rows_generator)
    x0 = latents.to(denoiser.device)
    time = torch.full((1,), t, device=denoiser.device)
    with watch(scores) if watch else watched_attention(transformer, scores):
        for draw in range(draws):
            noise = torch.randn(x0.shape, generator=generator).to(x0)
            denoiser.predict_x0(denoiser.add_noise(x0, noise, time), time, cond)
            scores.draw_rows()
            if on_draw is not None:
                on_draw(draw + 1, draws)
    return scores.map(spec.name, rule)


@contextmanager
def watched_attention(transformer: nn.Module, scores: HeadScores) -> Iterator[None]:
    """Inside the context, each forward of a diffusers transformer (batch 1) adds its self-attention to `scores`.

    q and k are taken where torch's attention gets them, so they are what the model itself computed, with norms,
    positions and any adapter. Models that hand them to another attention routine cannot be read, which
    `scores.map` then says.
    """
    spec = spec_for(transformer)
    if spec.layout != "diffusers":
        raise ValueError(f"{type(transformer).__name__} is not a diffusers transformer: feed its q and k to HeadScores")
    attentions = [transformer.get_submodule(tap.input) for tap in spec.taps]
    pairs = [
        (one, partial(_watched, partial(_observe, scores, spec, block), one.forward))
        for block, one in enumerate(attentions)
    ]
    with torch_attention(*attentions), overridden(pairs):
        yield


def _watched(observe: Callable[[torch.Tensor, torch.Tensor], None], forward: Forward, *args, **kwargs):
    """An attention's forward whose q and k are observed."""
    with AttentionCalls(observe):
        return forward(*args, **kwargs)


def _observe(scores: HeadScores, spec: DiTSpec, block: int, q: torch.Tensor, k: torch.Tensor) -> None:
    video = video_slice(spec.attention, q.shape[2], scores.grid, spec.name)
    scores.observe(block, q[0, :, video], k[0, :, video])

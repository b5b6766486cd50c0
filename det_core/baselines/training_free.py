"""Training-free methods as losses of a guidance, ported from U-Nets to DiTs: DMT, MOFT and MotionClone.

What is ported is what each compares. It is read from one block of the DiT in the clean source, at no noise and with an
empty prompt, and moves latents as every loss of `det_core.guidance` does; the originals' inversion, noise schedules and
masks are left out (docs/measured/benchmark.md). DiTFlow and FlowMotion are losses of the guidance itself.

Convention: as in `guidance.losses`; tokens are (B, T*H*W, C), time-major.
"""

from __future__ import annotations

import torch

from ..guidance.losses import Grid, Loss, motion_features

CHANNEL_SHARE = 0.04  # of MOFT: 50 of 1280 channels


def spatial_means(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, T, C) float32: the mean over places of every frame's features (DMT's spatial marginal mean)."""
    return tokens.float().unflatten(1, (grid[0], grid[1] * grid[2])).mean(2)


def spatial_means_loss(tokens: torch.Tensor, target: torch.Tensor, grid: Grid, where=None) -> torch.Tensor:
    """(B,) DMT's loss (arXiv 2311.17009): one minus the cosine over channels of how the means of every two frames
    differ, in the video and in the source. The original also counts each frame against itself, which is constant.

    A mean over all places knows no mask: `where` is not looked at.
    """
    means = spatial_means(tokens, grid)
    apart = [m[:, :, None] - m[:, None] for m in (means, target)]  # (B, T, T, C)
    cosine = torch.cosine_similarity(*apart, dim=-1)
    pairs = ~torch.eye(grid[0], dtype=torch.bool, device=tokens.device)
    return 1 - cosine[:, pairs].mean(1)


def motion_channels(tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The source's `motion_features` (1, T, places, c) in its motion channels, and which those are, (c,) indices.

    They have the largest loadings, by amount, in the first principal component of the features.      (MOFT)
    """
    features = motion_features(tokens, grid)
    rows = features.flatten(0, 2)
    loadings = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1].abs()
    chosen = loadings.topk(max(1, round(CHANNEL_SHARE * len(loadings)))).indices
    return features[..., chosen], chosen


def motion_channels_loss(
    tokens: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor], grid: Grid, where: torch.Tensor | None = None
) -> torch.Tensor:
    """(B,) one minus the cosine over the motion channels, at each place and time.     (MOFT, arXiv 2405.14864)

    The cosine is DiTFlow's port of it; the original has a squared error.
    """
    features, chosen = target
    apart = 1 - torch.cosine_similarity(motion_features(tokens, grid)[..., chosen], features, dim=-1)
    weight = torch.ones_like(apart[:1]) if where is None else where
    return (weight * apart).flatten(1).sum(1) / weight.sum().clamp(min=1e-12)


def temporal_attention(q: torch.Tensor, k: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, heads, places, T, T) float32: attention over the frames at one place, the softmax over the last axis.

    A DiT has no temporal attention: this is its joint attention with all other places left out.
    Args: q, k: (B, heads, T*H*W, width) after norm and positions.
    """
    q, k = (v.float().unflatten(2, (grid[0], grid[1] * grid[2])).transpose(2, 3) for v in (q, k))
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


def strongest_attention(q: torch.Tensor, k: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each of the source's attention rows and its frame, both (1, heads, places, T, 1)."""
    strongest = temporal_attention(q, k, grid).max(-1, keepdim=True)
    return strongest.values, strongest.indices


def strongest_attention_loss(
    q: torch.Tensor,
    k: torch.Tensor,
    target: tuple[torch.Tensor, torch.Tensor],
    grid: Grid,
    where: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B,) MotionClone's loss (arXiv 2406.05338): squared difference of the attention from the source's, only at the
    frame that is the strongest in the source."""
    values, frames = target
    attention = temporal_attention(q, k, grid)
    apart = attention.gather(-1, frames.expand(*attention.shape[:-1], 1)) - values
    weight = torch.ones_like(values) if where is None else where.T[None, None, ..., None].expand_as(values)
    return (weight * apart.square()).flatten(1).sum(1) / weight.sum().clamp(min=1e-12)


# Updates and steps are those at which DMT, MOFT and DiTFlow move latents: five small ones in each guided step.
DMT = Loss("dmt", "tokens", spatial_means, spatial_means_loss, updates=5, step=1 / 3)
MOFT = Loss("moft", "tokens", motion_channels, motion_channels_loss, updates=5, step=1 / 3)
MOTION_CLONE = Loss(
    "motionclone", "attention", strongest_attention, strongest_attention_loss, updates=5, step=1 / 3
)  # fmt: skip

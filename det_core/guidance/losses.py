"""What a motion is compared by: mean-removed features, attention motion flow, or predicted clean latents.

Convention: tokens are (B, T*H*W, C), time-major over `grid` (T, H, W); `places` below is H*W. A loss is summed over the
    batch, so that each video's gradient is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Loss:
    """One way to compare a motion with the source's.

    reads:    what of the model is compared: "tokens" that the guided block gives, its "attention" (q and k), or the
              clean "latents" it predicts, which needs no gradient of the model.
    target:   called as target(*read, grid) on the source; its answer is kept.
    distance: called as distance(*read, target, grid, where); (B,), `where` being weights or None: (T, places) of tokens
              or, of latents, (T, H, W).
    updates, step: factors on the base model's own number of updates and size of a step, see `Plan.for_spec`.
    """

    name: str
    reads: str
    target: Callable[..., Any]
    distance: Callable[..., torch.Tensor]
    updates: int = 1
    step: float = 1.0


def motion_features(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, T, places, C) float32: tokens less their mean over time at each place. What stands still is gone.

    (The content correlation removal of MOFT, arXiv 2405.14864.)
    """
    features = tokens.float().unflatten(1, (grid[0], grid[1] * grid[2]))
    return features - features.mean(1, keepdim=True)


def feature_loss(features: torch.Tensor, target: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """(B,) distance of `motion_features` (B, T, places, C) from the source's (1, T, places, C).

    One minus the cosine over channels at each place and time, weighted by the source's norm there: where nothing moves
    little counts.

    Args: where: (T, places) further weights, such as a mask of the subject.
    """
    norm = target.norm(dim=-1)
    weight = norm if where is None else norm * where
    apart = 1 - torch.cosine_similarity(features, target, dim=-1)
    return (weight * apart).flatten(1).sum(1) / weight.sum().clamp(min=1e-12)


def motion_flow(
    q: torch.Tensor, k: torch.Tensor, grid: Grid, frame: int, *, hard: bool, temperature: float = 2.0
) -> torch.Tensor:
    """(B, places, T, 2) displacement (y, x) in tokens of `frame`'s places to every frame.  (DiTFlow, arXiv 2412.07776)

    For each place, the softmax over the places of the other frame of q k^T / sqrt(width), averaged over heads before it
    and times `temperature`; the mean place under it, or, `hard`, the likeliest.

    Args: q, k: (B, heads, T*H*W, width) after norm and positions.
    """
    time, height, width = grid
    places = height * width
    rows = q[:, :, frame * places : (frame + 1) * places].float().transpose(1, 2).flatten(2)
    keys = k.float().transpose(1, 2).flatten(2)  # heads side by side: the product sums over them
    logits = rows @ keys.transpose(1, 2) * (temperature / (q.shape[1] * q.shape[3] ** 0.5))
    logits = logits.unflatten(-1, (time, places))
    index = torch.arange(places, device=q.device)
    place = torch.stack([index // width, index % width], dim=-1).float()
    reached = place[logits.argmax(-1)] if hard else logits.softmax(-1) @ place
    return reached - place[:, None]


def flow_target(q: torch.Tensor, k: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(1, T, places, T, 2): the source's displacements from every frame to every frame, in whole tokens."""
    return torch.stack([motion_flow(q, k, grid, frame, hard=True) for frame in range(grid[0])], dim=1)


def flow_loss(
    q: torch.Tensor, k: torch.Tensor, target: torch.Tensor, grid: Grid, where: torch.Tensor | None = None
) -> torch.Tensor:
    """(B,) mean squared difference of displacements, where the source's are not zero.

    The rows of one frame's map are kept at a time; backward computes them again.
    Args: where: (T, places) weights of the places that displacements start from.
    """
    total, count = 0.0, 0.0
    for frame in range(grid[0]):
        flow = checkpoint(motion_flow, q, k, grid, frame, hard=False, use_reentrant=False, preserve_rng_state=False)
        weight = (target[:, frame] != 0).any(-1, keepdim=True).to(flow)  # (1, places, T, 1)
        if where is not None:
            weight = weight * where[frame][:, None, None]
        total = total + (weight * (flow - target[:, frame]).square()).flatten(1).sum(1)
        count = count + 2 * weight.sum()
    return total / count.clamp(min=1e-12)


def latent_loss(x0: torch.Tensor, source: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """(B,) FlowMotion's loss (arXiv 2603.06289) on predicted clean latents (B, C, T, H, W), the source's beside them.

    20 times the squared error, and 5 times that of the absolute differences of frames: of neighbours, and of every
    frame against all.
    Args: where: (T, H, W) weights.
    """
    frames = range(x0.shape[2])
    neighbours = _error(_changes(x0), _changes(source), None if where is None else where[1:])
    anchored = sum(
        _error((x0 - x0[:, :, f : f + 1]).abs(), (source - source[:, :, f : f + 1]).abs(), where) for f in frames
    )
    return 20 * _error(x0, source, where) + 5 * neighbours + 5 * anchored / len(frames)


def _changes(x: torch.Tensor) -> torch.Tensor:
    return x.diff(dim=2).abs()


def _error(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """(B,) mean squared difference of (B, C, T, H, W), weighted by (T, H, W)."""
    square = (a - b).square()
    if weight is None:
        return square.flatten(1).mean(1)
    return (square * weight).flatten(1).sum(1) / (weight.sum() * a.shape[1]).clamp(min=1e-12)


FEATURES = Loss(
    "features", "tokens", motion_features,
    lambda tokens, target, grid, where: feature_loss(motion_features(tokens, grid), target, where),
)  # fmt: skip
FLOW = Loss("flow", "attention", flow_target, flow_loss, updates=5, step=1 / 3)
LATENTS = Loss(
    "latents", "latents", lambda source, _grid: source,
    lambda x0, target, _grid, where: latent_loss(x0, target, where), updates=3, step=1 / 3,
)  # fmt: skip
LOSSES = {loss.name: loss for loss in (FEATURES, FLOW, LATENTS)}

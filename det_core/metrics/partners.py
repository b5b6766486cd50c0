"""Every generated track against every source track, and the best partner of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..tracking.tracks import Tracks
from .curves import shared_halves, step_agreement

ALPHA = 0.5  # weight of the shape half
PAIRS_AT_ONCE = 20_000  # bounds the memory of all-pairs comparisons


def over_steps(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the counted steps (..., T-1) of each track; NaN where there is none."""
    return (values * counted).sum(-1) / counted.sum(-1)


def pairs(source: Tracks, generated: Tracks, strict: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Shape and direction halves of every generated with every source track, both (M, N)."""
    chunk = max(1, PAIRS_AT_ONCE // len(source))
    blocks = []
    for start in range(0, len(generated), chunk):
        some = slice(start, start + chunk)
        points = generated.points.double()[some, None].expand(-1, len(source), -1, -1)
        seen = generated.visible[some, None].expand(-1, len(source), -1)
        if strict:
            found = step_agreement(source.points.double(), points, source.visible, seen)
            directed = found.directed.expand_as(found.direction)
            blocks.append((over_steps(found.shape, found.counted), over_steps(found.direction, directed)))
        else:
            blocks.append(shared_halves(source.points.double()[None], points, source.visible & seen))
    return tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))


@dataclass(frozen=True)
class Best:
    """The best partner of each of K tracks and the halves with it (K,), NaN where none is `found`."""

    partner: torch.Tensor
    found: torch.Tensor
    shape: torch.Tensor
    direction: torch.Tensor

    def mean(self, half: torch.Tensor) -> float:
        return half.nanmean().item() if self.found.any() else 0.0


def best(shape: torch.Tensor, direction: torch.Tensor, allowed: torch.Tensor) -> Best:
    """Among partners (K, partners) that are `allowed`, those with the highest score."""
    score = torch.where(allowed, ALPHA * shape + (1 - ALPHA) * direction, -torch.inf)
    partner, found = score.argmax(1), allowed.any(1)
    halves = (torch.where(found, half.gather(1, partner[:, None])[:, 0], torch.nan) for half in (shape, direction))
    return Best(partner, found, *halves)

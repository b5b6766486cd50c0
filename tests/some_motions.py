"""Tracks of made-up motions."""

import math
from functools import lru_cache

import torch

from det_core.tracking.tracks import Tracks


def straight(count=12, frames=17, seed=0, span=0.3):
    """Tracks that cross `span` of the frame in one direction each."""
    g = torch.Generator().manual_seed(seed)
    start = 0.2 + 0.4 * torch.rand(count, 1, 2, generator=g)
    angle = 2 * math.pi * torch.rand(count, 1, generator=g)
    along = torch.stack([angle.cos(), angle.sin()], -1) * span
    time = torch.linspace(0, 1, frames)[None, :, None]
    return Tracks(start + along * time, torch.ones(count, frames, dtype=torch.bool))


def curved(count=9, frames=21, seed=1):
    g = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, frames, 2, generator=g) * 0.02
    return Tracks(0.5 + steps.cumsum(1), torch.ones(count, frames, dtype=torch.bool))


def with_points(tracks, points):
    return Tracks(points, tracks.visible)


def direct_frechet(a, b):
    """The recursive definition of Eiter and Mannila, one pair of curves, plain Python."""

    @lru_cache(None)
    def c(i, j):
        d = math.dist(a[i], b[j])
        if i == 0 and j == 0:
            return d
        if i == 0:
            return max(c(0, j - 1), d)
        if j == 0:
            return max(c(i - 1, 0), d)
        return max(min(c(i - 1, j), c(i - 1, j - 1), c(i, j - 1)), d)

    return c(len(a) - 1, len(b) - 1)


def on_a_disc(seed: int, points: int = 100, frames: int = 20) -> Tracks:
    """Points drawn by chance on one disc that turns once while it goes to the right."""
    generator = torch.Generator().manual_seed(seed)
    radius = 0.15 * torch.rand(points, generator=generator).sqrt()
    angle = 2 * math.pi * torch.rand(points, generator=generator)
    time = torch.linspace(0, 1, frames)
    turned = angle[:, None] + 2 * math.pi * time
    path = torch.stack([radius[:, None] * turned.cos() + 0.3 + 0.4 * time, radius[:, None] * turned.sin() + 0.5], -1)
    return Tracks(path, torch.ones(points, frames))

"""Motion fidelity as the released evaluation of DeT computes it, for comparison with tables made by it."""

from __future__ import annotations

import torch

from ..tracking.tracks import Tracks
from .curves import EPSILON

DRAWN = 50  # tracks that the released evaluation draws for its distance half


def reference_halves(
    source: Tracks, generated: Tracks, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Its distance half for each drawn track (50,), and its cosine half for each generated track (M,)."""
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    a, b = generated.points.double(), source.points.double()
    vectors = []
    for points in (a, b):
        steps = torch.cat([points[:, :1], points[:, 1:] - points[:, :-1]], dim=1)
        vectors.append(steps / steps.norm(dim=-1, keepdim=True).clamp_min(EPSILON))
    cosines = torch.einsum("mtc,ntc->mn", *vectors) / a.shape[1]
    ids = torch.randint(0, min(len(a), len(b)), (DRAWN,), generator=generator)
    drawn_a, drawn_b = a[ids], b[ids]
    distance = torch.stack([torch.cdist(track, drawn_b).mean((-1, -2)) for track in drawn_a])  # (50, 50)
    return (1 / (1 + distance)).amax(1), cosines.amax(1)

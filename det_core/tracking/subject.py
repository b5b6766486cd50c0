"""Track the moving subject of a video: points from its mask, or from what moves against the camera."""

from __future__ import annotations

from pathlib import Path

import torch

from .tracks import Tracks, sample_query_points

QUERY_POINTS = 100  # as in the paper


def subject_points(frames: torch.Tensor, mask: Path | None, seed: int) -> torch.Tensor:
    """(N, 2) points on the subject in the first of `frames` (T, H, W, 3), at most 100."""
    if mask is None:
        from .foreground import foreground_mask

        foreground = foreground_mask(frames)
    else:
        from ..media.masks import read_mask

        foreground = read_mask(mask, *frames.shape[1:3])
    return sample_query_points(foreground, QUERY_POINTS, generator=torch.Generator().manual_seed(seed))


def track_subject(
    frames: torch.Tensor, mask: Path | None = None, *, tracker: str = "auto", device: str = "cpu", seed: int = 0
) -> Tracks:
    """Tracks of the subject over all `frames`; see `det_core.tracking.trackers.track` for the trackers."""
    from .trackers import track

    return track(frames, subject_points(frames, mask, seed), tracker=tracker, device=device)

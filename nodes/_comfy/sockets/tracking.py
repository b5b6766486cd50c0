"""Tracks of a video as the nodes make them: the sprite reader for the embedded model's clips, det_core's trackers for
the rest."""

from __future__ import annotations

import comfy.model_management as mm
import torch

from ....det_core.tracking.trackers import TRACKERS, track
from ....det_core.tracking.tracks import Tracks, sample_query_points

SPRITE = "sprite"
TRACKER_NAMES = [*TRACKERS, SPRITE]


def track_video(
    frames: torch.Tensor,
    queries: torch.Tensor | None,
    count: int,
    tracker: str,
    generator: torch.Generator,
) -> Tracks:
    """Tracks of `frames` (T, H, W, 3) in [0, 1], computed on ComfyUI's device.

    Args:
        queries: (N, 2) in [0, 1] in the first frame; None finds the moving subject and draws `count` points of it.
            With queries, a clip of the embedded model in which no shape is seen gives tracks that are never visible.
    """
    if tracker in ("auto", SPRITE):
        tracks = _sprite_tracks(frames, queries, count, generator, certain=tracker == SPRITE)
        if tracks is not None:
            return tracks
        if tracker == SPRITE:
            raise ValueError(
                "the sprite tracker reads clips of the embedded model only, 64x64 pixels with one shape on a known "
                "background, and "
                "sees none here: choose auto"
            )
    if queries is None:
        from ....det_core.tracking.foreground import foreground_mask

        queries = sample_query_points(foreground_mask(frames), count, generator=generator)
    return track(frames, queries, tracker=tracker, device=mm.get_torch_device())


def _sprite_tracks(
    frames: torch.Tensor, queries: torch.Tensor | None, count: int, generator: torch.Generator, *, certain: bool
) -> Tracks | None:
    """Tracks of a clip of the embedded model, None if this is none; `certain`: it is one, however badly drawn."""
    from ....det_core.models.embedded.corpus import SIZE

    if frames.shape[1:3] != (SIZE, SIZE):
        return None
    from ....det_core.models.embedded.base_model import sprite_tracks
    from ....det_core.models.embedded.reader import read_clip

    reading = read_clip(frames)
    if certain and queries is not None and not reading.seen.any():
        points = queries[:, None].expand(-1, len(frames), -1).clone()
        return Tracks(points, torch.zeros(points.shape[:2], dtype=torch.bool), SPRITE)
    if not (reading.seen.any() if certain else reading.is_corpus_clip):
        return None
    if queries is None:
        queries = sample_query_points(reading.first_mask, count, generator=generator)
    return sprite_tracks(reading, queries)

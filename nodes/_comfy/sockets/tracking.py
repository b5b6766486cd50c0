"""Tracks of a video as the nodes make them: the readers for clips of the embedded models, det_core's trackers for the
rest."""

from __future__ import annotations

import comfy.model_management as mm
import torch

from ....det_core.tracking.subject import follow_subject
from ....det_core.tracking.trackers import TRACKERS, track
from ....det_core.tracking.tracks import Tracks, sample_query_points

SPRITE = "sprite"
WORLD = "world"  # in TRACKS of clips of embedded model 2
TRACKER_NAMES = [*TRACKERS, SPRITE]
NO_SPRITE = (
    "the sprite tracker reads clips of the embedded model only, 64x64 pixels with one shape on a known background, and "
    "sees none here: choose auto"
)


def track_video(
    frames: torch.Tensor,
    mask: torch.Tensor | None,
    count: int,
    tracker: str,
    generator: torch.Generator,
) -> Tracks:
    """Tracks of the subject of `frames` (T, H, W, 3) in [0, 1], computed on ComfyUI's device.

    Args: mask: (H, W) of the subject in the first frame; None finds what moves. `count` points are drawn of it.
    """
    if tracker in ("auto", SPRITE):
        twin = torch.Generator().set_state(generator.get_state())  # a clip of another kind draws the same points
        queries = None if mask is None else sample_query_points(mask, count, generator=twin)
        tracks = _sprite_tracks(frames, queries, count, twin, certain=tracker == SPRITE)
        tracks = _world_tracks(frames, mask, count, generator) if tracks is None else tracks
        if tracks is not None:
            return tracks
        if tracker == SPRITE:
            raise ValueError(NO_SPRITE)
    return follow_subject(frames, mask, generator, count, tracker=tracker, device=mm.get_torch_device())


def track_what(
    frames: torch.Tensor, mask: torch.Tensor | None, count: int, tracker: str, generator: torch.Generator, what: str
) -> tuple[Tracks, torch.Tensor | None]:
    """`track_video` of the subject, the camera or both; and which points, (N,) bool, lie on what only the camera moves,
    None for the subject alone. Raises: ValueError if the tracker reads subjects only."""
    if what == "subject":
        return track_video(frames, mask, count, tracker, generator), None
    if tracker == SPRITE:
        raise ValueError("the sprite tracker reads one shape and no camera: choose auto")
    from ....det_core.tracking.moves import still_points  # needs OpenCV

    on_still = count if what == "camera" else max(1, count // 2)
    places, asked = still_points(frames, mask, on_still, generator)
    device = mm.get_torch_device()
    still = track(frames, places, tracker=tracker, device=device, query_frame=asked)
    if what == "camera":
        return still, torch.ones(len(still), dtype=torch.bool)
    subject = follow_subject(frames, mask, generator, max(1, count - on_still), tracker=still.tracker, device=device)
    return Tracks.joined([subject, still]), torch.arange(len(subject) + len(still)) >= len(subject)


def track_video_again(frames: torch.Tensor, source: Tracks) -> Tracks:
    """The source's points in another video, by the source's tracker where it is one of ours.

    A clip of the embedded model in which no shape is seen gives tracks that are never visible.
    """
    found = _world_tracks(frames, None, len(source), torch.Generator()) if source.tracker == WORLD else None
    if found is not None:
        return found
    tracker = source.tracker if source.tracker in TRACKER_NAMES else "auto"
    if tracker in ("auto", SPRITE):
        places, _ = source.queries()
        tracks = _sprite_tracks(frames, places, len(source), torch.Generator(), certain=tracker == SPRITE)
        if tracks is not None:
            return tracks
        if tracker == SPRITE:
            raise ValueError(NO_SPRITE)
    places, asked = source.at(range(min(source.frames, len(frames)))).queries()
    return track(frames, places, tracker=tracker, device=mm.get_torch_device(), query_frame=asked)


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


def _world_tracks(
    frames: torch.Tensor, mask: torch.Tensor | None, count: int, generator: torch.Generator
) -> Tracks | None:
    """Tracks of the objects of a clip of embedded model 2, of those in the mask (H, W); None if there are none."""
    from ....det_core.models.embedded.corpus import SIZE

    if frames.shape[1:3] != (SIZE, SIZE):
        return None
    from ....det_core.models.embedded.world.parts import read_tracks

    tracks = read_tracks(frames, count, generator, ground=False)
    if tracks is None or mask is None:
        return tracks
    column, row = (tracks.points[:, 0] * torch.tensor(mask.shape).flip(0)).long().unbind(-1)
    inside = mask[row.clamp(0, len(mask) - 1), column.clamp(0, mask.shape[1] - 1)] > 0.5
    return tracks.only(inside) if inside.any() else None

"""Track the moving subject of a video: points from its mask, or from what moves against the camera.

Trackers lose points, and those without weights never find one again. So the subject is looked for again every 16
frames: what of it no point covers any more (it was lost, it turned, it comes back, it comes late) gets new points,
which are followed to both ends of the video.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from .tracks import Tracks, binary_mask, sample_query_points

logger = logging.getLogger(__name__)

QUERY_POINTS = 100  # as in the paper
EVERY = 16  # frames: after as many a third of a weights-free tracker's points is left (docs/understand/tracks.md)
LOOKED_AT = 4  # frames: nearer to the end, what moves is found by looking back
SPACINGS = 2.0  # a pixel of the subject is covered by a point within twice the points' mean distance
BESIDE = 0.02  # of the picture's short side: a point as near to the subject is still on it
WHAT = ("subject", "camera", "both")  # can be followed; for the camera see `moves`
FOUND_BY_MOTION = (
    "the subject was found by its motion, its shadow included; a part that looks like the background may be missing. "
    "Look at the points: where they are wrong, point at it or give a mask"
)
SAME_SUBJECT = 0.3  # IoU of a given mask with what is found to move, for later finds to be that subject


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
    """`follow_subject` with a mask file, or none."""
    from ..media.masks import read_mask

    subject = None if mask is None else read_mask(mask, *frames.shape[1:3])
    return follow_subject(frames, subject, torch.Generator().manual_seed(seed), tracker=tracker, device=device)


def follow_subject(
    frames: torch.Tensor,
    mask: torch.Tensor | None,
    generator: torch.Generator,
    count: int = QUERY_POINTS,
    *,
    tracker: str = "auto",
    device: torch.device | str = "cpu",
) -> Tracks:
    """Tracks of the subject: `count` points of the first frame and, where those do not cover it, points of later ones.

    Where the subject of the first frame is only a guess and a later one is not, all points are of later frames. With a
    mask, later frames count only if what is found to move in the first one is what the mask shows.

    Args: frames (T, H, W, 3), uint8 or float in [0, 1]; mask (H, W) of the subject in the first frame, as
        `binary_mask` reads it, None to find it; generator draws the points. See `trackers.track` for the trackers.
    Raises: ValueError as `found_subject`, `sample_query_points` and `track` do.
    """
    from .foreground import found_subject
    from .trackers import track

    mask = None if mask is None else binary_mask(mask).cpu()
    if mask is None:
        logger.info(FOUND_BY_MOTION)
    subject, doubt = (mask, "") if mask is not None else found_subject(frames)
    first = track(frames, sample_query_points(subject, count, generator=generator), tracker=tracker, device=device)
    places, asked, subjects = [], [], {}
    for frame in _later_frames(frames, mask):
        ahead = frames[frame:] if frame + LOOKED_AT < len(frames) else frames[: frame + 1].flip(0)
        subject, later_doubt = found_subject(ahead)
        if later_doubt:
            continue
        subjects[frame] = subject
        seen = first.points[first.visible[:, frame] & (not doubt), frame]
        bare = _uncovered(subject, seen, count)
        if wanted := round(count * bare.sum().item() / subject.sum().item()):
            places.append(sample_query_points(bare, wanted, generator=generator))
            asked += [frame] * len(places[-1])
    if not asked:
        if doubt:
            logger.warning("%s; better give a mask", doubt)
        return _on_subject(first, subjects)
    logger.info("%d points of later frames follow what those of the first do not", len(asked))
    later = track(frames, torch.cat(places), tracker=first.tracker, device=device, query_frame=torch.tensor(asked))
    return _on_subject(later if doubt else Tracks.joined([first, later]), subjects)


def _on_subject(tracks: Tracks, subjects: dict[int, torch.Tensor]) -> Tracks:
    """Points that are beside the subject (H, W) where it was looked for again have slid off: hidden from there on,
    away from the frame in which they were chosen."""
    visible, (_, asked) = tracks.visible.clone(), tracks.queries()
    for frame, subject in subjects.items():
        size = torch.tensor([subject.shape[1], subject.shape[0]])
        reach = 1 + round(BESIDE * int(size.min()))
        near = F.max_pool2d(subject[None].float(), 2 * reach + 1, 1, reach)[0] > 0
        x, y = (tracks.points[:, frame] * size).long().clamp(torch.zeros_like(size), size - 1).unbind(-1)
        off = visible[:, frame] & ~near[y, x]
        visible[off & (asked < frame), frame:] = False
        visible[off & (asked > frame), : frame + 1] = False
    return replace(tracks, visible=visible)


def _later_frames(frames: torch.Tensor, mask: torch.Tensor | None) -> range:
    """Frames in which the subject is looked for again; none where a mask shows something else than what moves."""
    from .foreground import found_subject

    later = range(EVERY, len(frames), EVERY)
    if mask is None or not later:
        return later
    found, doubt = found_subject(frames)
    if doubt or (found & mask).sum() < SAME_SUBJECT * (found | mask).sum():
        logger.info("what is found to move is not what the mask shows: all points are of the first frame")
        return range(0)
    return later


def _uncovered(subject: torch.Tensor, points: torch.Tensor, count: int) -> torch.Tensor:
    """The part of a subject (H, W) bool that is far from all `points` (n, 2), measured by what `count` points cover."""
    if not len(points):
        return subject
    pixels, size = subject.nonzero(), torch.tensor([subject.shape[1], subject.shape[0]])
    nearest = torch.cdist(pixels.float() + 0.5, (points * size).flip(-1)).amin(1)
    far = pixels[nearest > SPACINGS * (len(pixels) / count) ** 0.5]
    bare = torch.zeros_like(subject)
    bare[far[:, 0], far[:, 1]] = True
    return bare

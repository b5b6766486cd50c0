"""Point trackers behind one function. `dis` and `lk` need no weights; `cotracker` is used where the user has it."""

import logging
import os

import torch

from ...media.video import as_uint8
from ..tracks import Tracks

logger = logging.getLogger(__name__)

TRACKERS = ("auto", "cotracker", "dis", "lk")


def resolve_tracker(
    name: str = "auto",
    *,
    weights: str | os.PathLike | None = None,
    checkout: str | os.PathLike | None = None,
) -> str:
    """The tracker that `name` stands for here: `auto` is cotracker if its code and weights are found, else dis.

    Args: weights, checkout: where CoTracker3's weights file and code are, if not in the usual places.
    Raises: ValueError if the name is unknown, or that tracker cannot be used here (says what it lacks).
    """
    from .cotracker import find_code, find_weights, missing

    if name not in TRACKERS:
        raise ValueError(f"there is no tracker {name!r}: choose one of {', '.join(TRACKERS)}")
    has_cotracker = name in ("auto", "cotracker") and bool(find_code(checkout) and find_weights(weights, checkout))
    if name == "auto":
        if (weights or checkout) and not has_cotracker:
            logger.warning("%s", missing(weights, checkout))
        return "cotracker" if has_cotracker else "dis"
    if name == "cotracker" and not has_cotracker:
        raise ValueError(missing(weights, checkout))
    return name


def track(
    frames: torch.Tensor,
    queries: torch.Tensor,
    *,
    tracker: str = "auto",
    device: torch.device | str = "cpu",
    query_frame: int | torch.Tensor = 0,
    weights: str | os.PathLike | None = None,
    checkout: str | os.PathLike | None = None,
) -> Tracks:
    """Follow points through a video, from their query frames to both of its ends.

    Note: the released code queries frame 1 with points of frame 0's mask; here a query belongs to `query_frame`.

    Args:
        frames:      (T, H, W, 3) RGB, uint8 or float in [0, 1].
        queries:     (N, 2) (x, y) in [0, 1], see `det_core.tracking.tracks`.
        tracker:     "auto", "cotracker", "dis" or "lk", see `resolve_tracker`; which one worked is logged and named in
                     the result.
        device:      where cotracker works; the others work on the CPU.
        query_frame: the frame the queries are positions in, or (N,) whole numbers, a frame for each.
        weights, checkout: CoTracker3's weights file and code, if not in the usual places.
    Returns: Tracks of N points over T frames, on the CPU.
    Raises: ValueError for a wrong shape, a frame that is not there, or a tracker that cannot be used.
    """
    frames, queries, asked = _checked(frames, queries, query_frame)
    chosen = resolve_tracker(tracker, weights=weights, checkout=checkout)
    if chosen == "cotracker":
        points, visible = _by_cotracker(frames, queries, asked, device, weights, checkout)
    elif chosen == "dis":
        from .dis import track_dis

        logger.info("tracking %d points with dis (OpenCV optical flow, no weights)", len(queries))
        points, visible = track_dis(frames, queries, asked)
    else:
        from .lk import track_lk

        logger.info("tracking %d points with lk (OpenCV's Lucas-Kanade, no weights; dis is better)", len(queries))
        points, visible = track_lk(frames, queries, asked)
    return Tracks(points, visible, chosen, asked)


def _by_cotracker(frames, queries, asked, device, weights, checkout):
    from .cotracker import LICENCE, find_weights, load_predictor, track_cotracker

    found = find_weights(weights, checkout)
    logger.info("tracking %d points with cotracker (%s). %s", len(queries), found, LICENCE)
    predictor = load_predictor(found, checkout)
    try:
        return track_cotracker(frames, queries, asked, device, predictor)
    finally:
        del predictor  # the only reference: nothing stays in memory after the tracks
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()


def track_again(
    frames: torch.Tensor, tracks: Tracks, *, tracker: str = "auto", device: torch.device | str = "cpu"
) -> Tracks:
    """Follow the points of `tracks` through another video: from the same places, at the same frames.

    Args: frames (T, H, W, 3); tracks over as many frames, or resampled to them. Others as for `track`.
    """
    places, asked = tracks.resample(len(frames)).queries()
    return track(frames, places, tracker=tracker, device=device, query_frame=asked)


def _checked(
    frames: torch.Tensor, queries: torch.Tensor, query_frame: int | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames as uint8, queries as float32 and a query frame for each, on the CPU."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"a video to track is (frames, height, width, 3), got {tuple(frames.shape)}")
    if queries.ndim != 2 or queries.shape[1] != 2 or len(queries) == 0:
        raise ValueError(f"query points are (points, 2), at least one, got {tuple(queries.shape)}")
    if not queries.isfinite().all():
        raise ValueError("a query point is NaN or infinite")
    asked = torch.as_tensor(query_frame).cpu().long()
    if asked.ndim and asked.shape != queries.shape[:1]:
        raise ValueError(f"there are {len(queries)} query points, but query frames of shape {tuple(asked.shape)}")
    if outside := [frame for frame in asked.flatten().tolist() if not 0 <= frame < len(frames)]:
        raise ValueError(f"query frame {outside[0]} is not in the video: it has frames 0 to {len(frames) - 1}")
    return as_uint8(frames).cpu(), queries.detach().float().cpu(), asked.expand(len(queries))

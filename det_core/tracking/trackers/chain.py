"""Chaining of frame-to-frame motion into tracks: what the trackers without weights share.

A step from one frame to the next gives every point a new place and a forward-backward error: how far the way back lands
from where the point came. That error decides what is repaired and what is still believed. The constants were chosen on
real clips (docs/understand/tracks.md); lengths are px of a 720x480 picture and grow with the picture's diagonal.
"""

import math
from collections.abc import Callable

import torch

from ..tracks import REFERENCE_DIAGONAL_PX

WORKING_SIDE_PX = 480  # the short side of the frames that are compared, whatever the video's size
STEP_ERROR_PX = 2.0  # a step with a larger error is replaced by that of its neighbours
TRUST_PX = 6.0  # a point is hidden for good once its errors add up to more than this
NEIGHBOURS = 8
FEWEST_NEIGHBOURS = 3  # with fewer good points to ask, a bad step stays as it is

Step = Callable[[int, int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) in px at which frames are compared: short side 480, shape kept."""
    scale = WORKING_SIDE_PX / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def chain(
    step: Step, queries: torch.Tensor, frames: int, query_frames: torch.Tensor | int, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points from their query frames to both ends of the video.

    Convention: positions are (x, y) px of the working picture, the centre of its first pixel is (0.5, 0.5).

    Args:
        step:    `step(frame, next_frame, points (N, 2))` -> (points in the next frame (N, 2), error (N,) px).
        queries: (N, 2) positions at `query_frames` (N,), or one frame for all of them.
        size:    (height, width) of the working picture.
    Returns: points (N, frames, 2) and visible (N, frames) bool. Visible means: inside the picture, and the errors
        since the query add up to at most 6 px (0.7% of the diagonal). A point once hidden stays hidden: bringing one
        back was wrong more often than right.
    """
    asked = torch.as_tensor(query_frames).expand(len(queries))
    points = queries[:, None].repeat(1, frames, 1)
    visible = torch.zeros(len(queries), frames, dtype=torch.bool)
    visible[torch.arange(len(queries)), asked] = _inside(queries, size)
    for order in (range(int(asked.min()), frames - 1), range(int(asked.max()), 0, -1)):
        _sweep(step, order, points, visible, asked, size)
    return points, visible


def _sweep(
    step: Step,
    order: range,
    points: torch.Tensor,
    visible: torch.Tensor,
    asked: torch.Tensor,
    size: tuple[int, int],
) -> None:
    """One way through the video, filling in `points` and `visible` of each point from its query frame on."""
    unit = math.hypot(*size) / REFERENCE_DIAGONAL_PX
    everyone, spent = torch.arange(len(asked)), points.new_zeros(len(asked))
    for frame in order:
        on_its_way = everyone[asked * order.step <= frame * order.step]
        now, believed = points[on_its_way, frame], visible[on_its_way, frame]
        moved, error = step(frame, frame + order.step, now)
        for together in asked[on_its_way].unique():
            some = asked[on_its_way] == together
            start = points[on_its_way[some], together]
            moved[some] = now[some] + _repaired(
                moved[some] - now[some], error[some], start, now[some], STEP_ERROR_PX * unit
            )
        spent[on_its_way] += error
        points[on_its_way, frame + order.step] = moved
        visible[on_its_way, frame + order.step] = (
            believed & _inside(moved, size) & (spent[on_its_way] <= TRUST_PX * unit)
        )


def _inside(points: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return ((points >= 0) & (points <= points.new_tensor(size[::-1]))).all(dim=-1)


def _repaired(
    motion: torch.Tensor, error: torch.Tensor, queries: torch.Tensor, now: torch.Tensor, limit: float
) -> torch.Tensor:
    """Motions (N, 2) whose bad ones became the median of the nearest good ones: near at the query frame and now."""
    bad = ~(error <= limit)
    good = ~bad
    if not bad.any() or int(good.sum()) < FEWEST_NEIGHBOURS:
        return motion
    distance = torch.maximum(torch.cdist(queries[bad], queries[good]), torch.cdist(now[bad], now[good]))
    nearest = distance.topk(min(NEIGHBOURS, distance.shape[1]), largest=False).indices
    motion = motion.clone()
    motion[bad] = motion[good][nearest].quantile(0.5, dim=1)
    return motion

"""Tracking by dense optical flow: OpenCV's DIS (dense inverse search), frame to frame. No weights.

DIS: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", arXiv 1603.03590; preset "medium", on grey frames.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..tracks import REFERENCE_DIAGONAL_PX
from .chain import STEP_ERROR_PX, chain, working_size

CUT_GRID_PX = 40  # between the points all over the picture that are asked whether there is a cut
SAME_LEVELS = 12  # of 255: up to which a spot that cannot be followed looks as before
GOES_ON_SHARE = 0.75  # of those points must be followed within STEP_ERROR_PX, or look as before, or it is a cut


def track_dis(
    frames: torch.Tensor, queries: torch.Tensor, query_frames: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points by DIS flow.

    Args: frames (T, H, W, 3) uint8; queries (N, 2) (x, y) in [0, 1] at `query_frames` (N,).
    Returns: points (N, T, 2) in [0, 1], visible (N, T) bool, on the CPU.
    """
    size = working_size(*frames.shape[1:3])
    pictures = grey_pictures(frames, size)
    flow_between = FlowEngine()

    def step(frame: int, next_frame: int, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here, there = pictures[frame], pictures[next_frame]
        forward, backward = flow_between(here, there), flow_between(there, here)
        moved, error = follow(forward, backward, points)
        return moved, torch.full_like(error, torch.inf) if is_cut(here, there, forward, backward) else error

    scale = queries.new_tensor([size[1], size[0]])
    points, visible = chain(step, queries * scale, len(frames), query_frames, size)
    return points / scale, visible


def is_cut(here: np.ndarray, there: np.ndarray, forward: torch.Tensor, backward: torch.Tensor) -> bool:
    """Whether one grey picture does not go on from the other: a quarter of it or more can neither be followed nor looks
    as before. A point alone cannot tell: a meadow before a cut is like the meadow after it."""
    height, width = here.shape
    ys, xs = (torch.arange(CUT_GRID_PX // 2, side, CUT_GRID_PX) for side in (height, width))
    spots = torch.cartesian_prod(ys, xs)
    if not len(spots):
        return False
    _, error = follow(forward, backward, spots.flip(-1) + 0.5)
    change = cv2.absdiff(cv2.blur(here, (5, 5)), cv2.blur(there, (5, 5)))[spots[:, 0], spots[:, 1]]
    limit = STEP_ERROR_PX * math.hypot(height, width) / REFERENCE_DIAGONAL_PX
    goes_on = (error <= limit) | torch.from_numpy(change <= SAME_LEVELS)
    return bool(goes_on.float().mean() < GOES_ON_SHARE)


class FlowEngine:
    """`engine(grey_a, grey_b)` -> flow (2, H, W) float32 px: a point p of `a` is at p + flow(p) in `b`."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._dis.calc(first, second, None)).permute(2, 0, 1)


def grey_pictures(frames: torch.Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames (T, H, W, 3) uint8 as grey (height, width) uint8 pictures of another size."""
    height, width = size
    shrink = height < frames.shape[1]
    pictures = []
    for frame in frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame.numpy()), cv2.COLOR_RGB2GRAY)
        if grey.shape != (height, width):
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
        pictures.append(grey)
    return pictures


def follow(forward: torch.Tensor, backward: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of points (N, 2) px along a flow: where they go, and the length of forward plus backward motion (N,)."""
    there = sample_flow(forward, points)
    back = sample_flow(backward, points + there)
    return points + there, (there + back).norm(dim=-1)


def sample_flow(flow: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Flow (2, H, W) read bilinearly at points (N, 2) px (centre of the first pixel at 0.5) -> (N, 2)."""
    grid = 2 * points / points.new_tensor([flow.shape[2], flow.shape[1]]) - 1
    return F.grid_sample(flow[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T

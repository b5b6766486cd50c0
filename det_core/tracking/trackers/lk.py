"""Tracking by OpenCV's pyramidal Lucas-Kanade, frame to frame. No weights; `dis` is better.

Bouguet, "Pyramidal Implementation of the Lucas Kanade Feature Tracker", 2000.
"""

import cv2
import numpy as np
import torch

from .chain import chain, working_size
from .dis import grey_pictures

WINDOW_PX = (21, 21)  # of the patch on every scale
HALVINGS = 3
FLAT = (
    1e-5  # least texture of a patch; at OpenCV's 1e-4 points of enlarged pictures are given up that could be followed
)


def track_lk(
    frames: torch.Tensor, queries: torch.Tensor, query_frames: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points by Lucas-Kanade, each step forward and back.

    Args: frames (T, H, W, 3) uint8; queries (N, 2) (x, y) in [0, 1] at `query_frames` (N,).
    Returns: points (N, T, 2) in [0, 1], visible (N, T) bool, on the CPU.
    """
    size = working_size(*frames.shape[1:3])
    pictures = grey_pictures(frames, size)

    def step(frame: int, next_frame: int, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moved, found = match(pictures[frame], pictures[next_frame], points)
        back, found_back = match(pictures[next_frame], pictures[frame], moved)
        return moved, (back - points).norm(dim=-1).masked_fill(~(found & found_back), torch.inf)

    scale = queries.new_tensor([size[1], size[0]])
    points, visible = chain(step, queries * scale, len(frames), query_frames, size)
    return points / scale, visible


def match(first: np.ndarray, second: np.ndarray, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points (N, 2) px of one grey picture are in another, and which were found (N,). OpenCV counts from the
    centre of the first pixel, we from its corner: half a px apart."""
    here = points.numpy() - np.float32(0.5)
    settings = {"winSize": WINDOW_PX, "maxLevel": HALVINGS, "minEigThreshold": FLAT}
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, here, None, **settings)
    return torch.from_numpy(there + np.float32(0.5)), torch.from_numpy(found[:, 0] > 0)

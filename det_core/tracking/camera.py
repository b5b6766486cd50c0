"""The camera's motion in a video: a homography from the first frame to every frame, found from what the picture does.

A homography explains a camera that turns and zooms, or moves before a flat background. Of a subject that fills most of
the picture it takes the motion for the camera's.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import torch

from ..media.video import as_uint8
from .trackers.chain import working_size
from .trackers.dis import FlowEngine, follow, grey_pictures
from .tracks import REFERENCE_DIAGONAL_PX, Tracks

GRID_PX = 12  # lengths are px of the working picture, whose short side is 480
EXPLAINED_PX = 2.0  # a point that fits the camera's homography this well is explained by it
TRUST_PX = 2.0  # forward-backward error up to which a point may vote for the camera


def homography(start: np.ndarray, now: np.ndarray, trusted: np.ndarray, tolerance: float) -> np.ndarray:
    """(3, 3) that most trusted points follow from `start` to `now` (P, 2 each); the identity where there is none."""
    if trusted.sum() < 8:
        trusted = np.ones(len(start), bool)
    found, _ = cv2.findHomography(start[trusted], now[trusted], cv2.USAC_MAGSAC, tolerance)
    return np.eye(3) if found is None else found


def projected(points: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Points (P, 2) moved by a homography (3, 3)."""
    return cv2.perspectiveTransform(points[None].astype(np.float64), by)[0]


def grid_points(size: tuple[int, int]) -> torch.Tensor:
    """(rows * columns, 2) points (x, y) px all over a working picture of `size` (height, width), row by row."""
    ys, xs = (torch.arange(GRID_PX / 2, side, GRID_PX) for side in size)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)


def camera_motion(frames: torch.Tensor) -> np.ndarray:
    """Where the camera takes the first frame's picture: (T, 3, 3) homographies between positions in [0, 1].

    Each step is found from the last frame to the next, so that errors add up slowly: below a percent of the picture
    after 48 frames of a pan that is known (tests).

    Args: frames (T, H, W, 3) RGB, uint8 or float in [0, 1].
    """
    frames = as_uint8(frames).cpu()
    size = working_size(*frames.shape[1:3])
    pictures, flow, start = grey_pictures(frames, size), FlowEngine(), grid_points(size)
    unit = math.hypot(*size) / REFERENCE_DIAGONAL_PX
    cameras = [np.eye(3)]
    for here, there in zip(pictures[:-1], pictures[1:], strict=True):
        now, error = follow(flow(here, there), flow(there, here), start)
        trusted = (error <= TRUST_PX * unit).numpy()
        cameras.append(homography(start.numpy(), now.numpy(), trusted, EXPLAINED_PX * unit) @ cameras[-1])
    scale = np.diag([size[1], size[0], 1.0])
    return np.stack([np.linalg.inv(scale) @ camera @ scale for camera in cameras])


def without_camera(tracks: Tracks, cameras: np.ndarray) -> Tracks:
    """The tracks as a camera that rests would have seen them: every frame's points in the first frame's picture.

    Args: cameras (T, 3, 3), as `camera_motion` gives them, one for each frame of the tracks.
    Raises: ValueError if their numbers of frames differ.
    """
    if len(cameras) != tracks.frames:
        raise ValueError(f"the camera is known in {len(cameras)} frames and the tracks have {tracks.frames}")
    points = tracks.points.cpu().numpy()
    still = [projected(points[:, t], np.linalg.inv(camera)) for t, camera in enumerate(cameras)]
    return replace(tracks, points=torch.from_numpy(np.stack(still, axis=1)))

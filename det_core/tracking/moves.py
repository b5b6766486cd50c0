"""What of a video is followed: its subject, what only the camera moves, or both; and the one told from the other."""

from __future__ import annotations

import numpy as np
import torch

from .camera import homography, without_camera
from .foreground import found_subject, grown
from .tracks import Tracks, sample_query_points

MARGIN = 0.03  # of the short side: so far around the subject no point counts as still
FEWEST = 8  # points that are seen in two frames, for a homography between them
EXPLAINED = 0.004  # of the picture's sides: a point that fits the camera's homography this well is explained by it


def still_points(
    frames: torch.Tensor, subject: torch.Tensor | None, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on what only the camera moves, half of them in the first frame and half in the last, which shows what has
    come into view.

    Args: frames (T, H, W, 3); subject (H, W), a mask of the subject in the first frame, None to find it.
    Returns: (N, 2) positions in [0, 1], (N,) frames in which they are.
    """
    radius = max(1, round(MARGIN * min(frames.shape[1:3])))
    first = (subject > 0.5, "") if subject is not None else found_subject(frames)
    places, asked = [], []
    for frame, (mask, doubt), wanted in (
        (0, first, count - count // 2),
        (len(frames) - 1, found_subject(frames.flip(0)), count // 2),
    ):
        # Where nothing moves against the camera, all of the picture is still.
        still = torch.ones_like(mask) if doubt else ~torch.from_numpy(grown(mask.numpy(), radius))
        if wanted and still.any():
            places.append(sample_query_points(still, wanted, generator=generator))
            asked += [frame] * len(places[-1])
    if not places:
        raise ValueError("the subject fills the picture: nothing is left to follow the camera by")
    return torch.cat(places), torch.tensor(asked)


def cameras_of(still: Tracks) -> np.ndarray:
    """(T, 3, 3) homographies that take positions of the first frame to each frame, from points of the background; see
    `camera.camera_motion`. Where fewer than 8 points are seen in two neighbouring frames the camera counts as resting.
    """
    points, seen = still.points.cpu().numpy(), still.visible.cpu().numpy()
    cameras = [np.eye(3)]
    for t in range(1, still.frames):
        both = seen[:, t - 1] & seen[:, t]
        step = np.eye(3)
        if both.sum() >= FEWEST:
            step = homography(points[both, t - 1], points[both, t], np.ones(both.sum(), bool), EXPLAINED)
        cameras.append(step @ cameras[-1])
    return np.stack(cameras)


def against_camera(tracks: Tracks, still: torch.Tensor) -> Tracks:
    """The subject's points as a camera that rests would have seen them.

    Args: tracks of subject and background; still (N,) bool, which of them are background.
    """
    return without_camera(tracks.only(~still), cameras_of(tracks.only(still)))

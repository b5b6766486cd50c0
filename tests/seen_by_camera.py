"""A textured ground and a disc on it, as a camera that is known sees them."""

import numpy as np
import torch
import torch.nn.functional as F

from det_core.tracking.camera import projected

HEIGHT, WIDTH = 120, 160


def ground(seed: int = 0) -> torch.Tensor:
    """A textured picture (3, 2 HEIGHT, 2 WIDTH), larger than what the camera sees of it."""
    noise = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (2 * HEIGHT, 2 * WIDTH), mode="bicubic").clamp(0, 1)[0]


def seen_by(cameras: np.ndarray, disc: np.ndarray) -> torch.Tensor:
    """Frames (T, HEIGHT, WIDTH, 3) of the ground: `cameras` take positions in [0, 1] of the first frame to each frame;
    a white disc stands at `disc` (T, 2) of each frame."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    at = np.stack([(x.ravel() + 0.5) / WIDTH, (y.ravel() + 0.5) / HEIGHT], axis=1)
    frames = []
    for camera, centre in zip(cameras, disc, strict=True):
        origin = projected(at, np.linalg.inv(camera))  # in the first frame, which is the middle of the ground
        grid = torch.from_numpy(origin - 0.5).float().view(1, HEIGHT, WIDTH, 2)
        frame = F.grid_sample(ground()[None], grid, align_corners=False)[0].permute(1, 2, 0)
        inside = np.hypot((at[:, 0] - centre[0]) * WIDTH, (at[:, 1] - centre[1]) * HEIGHT).reshape(HEIGHT, WIDTH) < 14
        frame[torch.from_numpy(inside)] = 1.0
        frames.append(frame)
    return torch.stack(frames)


def moved(shift=(0.0, 0.0), zoom=1.0) -> np.ndarray:
    about = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    return about @ np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1.0]]) @ np.linalg.inv(about)

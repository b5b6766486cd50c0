"""Tracking by pyramidal Lucas-Kanade in plain torch: the tracker that is always there. No weights, no OpenCV.

On each of four scales the patch around a point in one frame is matched in the next by Gauss-Newton, with the slopes of
the first frame (Bouguet, "Pyramidal Implementation of the Lucas Kanade Feature Tracker", 2000).
"""

import torch
import torch.nn.functional as F

from .chain import chain, working_size

RADIUS_PX = 10  # the patch is 21 px wide on every scale
HALVINGS = 3
ITERATIONS = 10
SETTLED_PX = 0.01  # stop when no point moves further than this
FLAT = 1e-6  # squared slope a px, grey in [0, 1]: keeps the step finite where a patch has no texture

Pyramid = list[torch.Tensor]  # (1, 1, H, W) from full size to the smallest


def track_lk(
    frames: torch.Tensor, queries: torch.Tensor, query_frames: torch.Tensor, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points by Lucas-Kanade, each step forward and back.

    Args: frames (T, H, W, 3) uint8; queries (N, 2) (x, y) in [0, 1] at `query_frames` (N,).
    Returns: points (N, T, 2) in [0, 1], visible (N, T) bool, on the CPU.
    """
    size = working_size(*frames.shape[1:3])
    pyramids: dict[int, Pyramid] = {}

    def pyramid(frame: int) -> Pyramid:
        if frame not in pyramids:
            for far in [other for other in pyramids if abs(other - frame) > 1]:
                del pyramids[far]
            pyramids[frame] = build_pyramid(frames[frame].to(device), size)
        return pyramids[frame]

    def step(frame: int, next_frame: int, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here, there, points = pyramid(frame), pyramid(next_frame), points.to(device)
        moved = match(here, there, points)
        error = (match(there, here, moved) - points).norm(dim=-1)
        return moved.cpu(), error.cpu()

    scale = queries.new_tensor([size[1], size[0]])
    points, visible = chain(step, queries * scale, len(frames), query_frames, size)
    return points / scale, visible


def build_pyramid(frame: torch.Tensor, size: tuple[int, int]) -> Pyramid:
    """A frame (H, W, 3) uint8 as grey pictures in [0, 1]: of `size`, then halved as long as a patch fits."""
    grey = (frame.float() / 255) @ frame.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)
    grey = grey[None, None]
    if grey.shape[2:] != size:
        grey = F.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
    levels = [grey]
    while len(levels) <= HALVINGS and min(levels[-1].shape[2:]) > 4 * RADIUS_PX:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def match(first: Pyramid, second: Pyramid, points: torch.Tensor) -> torch.Tensor:
    """Where points (N, 2) px of the first frame are in the second."""
    offset = torch.zeros_like(points)  # in px of the scale at work
    window = _window(RADIUS_PX + 1, points)  # one px more, for the derivatives
    inner = _window(RADIUS_PX, points)
    for level in reversed(range(len(first))):
        centre = points / 2**level
        patch = _sample(first[level], centre[:, None, None] + window)
        template = patch[:, 1:-1, 1:-1]
        slope_x = (patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2]) / 2
        slope_y = (patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]) / 2
        slope = torch.stack([slope_x, slope_y], dim=-1).flatten(1, 2)  # (N, px, 2)
        curvature = slope.mT @ slope
        inverse = torch.linalg.inv(curvature + FLAT * slope.shape[1] * torch.eye(2, device=points.device))
        for _ in range(ITERATIONS):
            residual = template - _sample(second[level], (centre + offset)[:, None, None] + inner)
            change = (inverse @ (slope.mT @ residual.flatten(1)[..., None]))[..., 0].clamp(-RADIUS_PX, RADIUS_PX)
            offset = offset + change
            if change.abs().max() < SETTLED_PX:
                break
        if level:
            offset = offset * 2
    return points + offset


def _window(radius: int, like: torch.Tensor) -> torch.Tensor:
    """(side, side, 2) offsets (x, y) px."""
    axis = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1)


def _sample(picture: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Picture (1, 1, H, W) read bilinearly at points (N, h, w, 2) px -> (N, h, w)."""
    count, height, width, _ = points.shape
    grid = 2 * points / points.new_tensor([picture.shape[3], picture.shape[2]]) - 1
    grid = grid.reshape(1, count, height * width, 2)
    values = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    return values.reshape(count, height, width)

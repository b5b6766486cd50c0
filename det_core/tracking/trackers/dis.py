"""Tracking by dense optical flow: OpenCV's DIS (dense inverse search), frame to frame. No weights.

DIS: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", arXiv 1603.03590; preset "medium", on grey frames.
"""

import numpy as np
import torch
import torch.nn.functional as F

from .chain import chain, working_size


def track_dis(frames: torch.Tensor, queries: torch.Tensor, query_frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points by DIS flow.

    Args: frames (T, H, W, 3) uint8; queries (N, 2) (x, y) in [0, 1] at `query_frame`.
    Returns: points (N, T, 2) in [0, 1], visible (N, T) bool, on the CPU.
    """
    size = working_size(*frames.shape[1:3])
    pictures = grey_pictures(frames, size)
    flow_between = FlowEngine()

    def step(frame: int, next_frame: int, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        forward = flow_between(pictures[frame], pictures[next_frame])
        backward = flow_between(pictures[next_frame], pictures[frame])
        return follow(forward, backward, points)

    scale = queries.new_tensor([size[1], size[0]])
    points, visible = chain(step, queries * scale, len(frames), query_frame, size)
    return points / scale, visible


class FlowEngine:
    """`engine(grey_a, grey_b)` -> flow (2, H, W) float32 px: a point p of `a` is at p + flow(p) in `b`."""

    def __init__(self) -> None:
        import cv2

        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._dis.calc(first, second, None)).permute(2, 0, 1)


def grey_pictures(frames: torch.Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames (T, H, W, 3) uint8 as grey (height, width) uint8 pictures of another size."""
    import cv2

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

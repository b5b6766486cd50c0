"""The motion loss of Follow-Your-Motion's temporal stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..baselines.motion_director import debiased_loss

MOTION_LOSSES = ("code", "signed", "debiased", "none")


def motion_loss(predicted: torch.Tensor, target: torch.Tensor, variant: str, anchor: int = 0) -> torch.Tensor:
    """How differently two velocities change from frame to frame.                       (Follow-Your-Motion, L_motion)

    "code": 1 - cosine of the absolute differences of neighbouring frames along time, as the released code does.
    "signed": 1 - cosine of the differences themselves along channels: the paper's formula read literally.
    "debiased": MotionDirector's loss, which the released code has as an earlier variant; `anchor` is its random frame.
    "none": 0.

    Args: predicted, target: (B, C, T, H, W). A single frame has no motion: 0 (with a gradient) for every variant.
    Returns: () float32, mean over all other axes.
    """
    if variant not in MOTION_LOSSES:
        raise ValueError(f"motion losses are {', '.join(MOTION_LOSSES)}; there is none called {variant!r}")
    if variant == "none" or predicted.shape[2] < 2:
        return predicted.float().sum() * 0.0
    if variant == "debiased":
        return debiased_loss(predicted, target, anchor)
    steps = [v.float().diff(dim=2) for v in (predicted, target)]
    if variant == "code":
        return 1 - F.cosine_similarity(steps[0].abs(), steps[1].abs(), dim=2).mean()
    return 1 - F.cosine_similarity(steps[0], steps[1], dim=1).mean()

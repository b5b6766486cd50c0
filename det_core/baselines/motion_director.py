"""MotionDirector's debiased loss (Zhao et al., arXiv 2310.08465): learn how frames differ, not how they look."""

from __future__ import annotations

import torch


def debiased_loss(predicted: torch.Tensor, target: torch.Tensor, anchor: int) -> torch.Tensor:
    """Squared error after one frame is subtracted from all: what all frames share, the appearance, cancels.

    Both are turned to sqrt(2) v - v[anchor] (the paper's sqrt(beta^2 + 1) v - beta v[anchor] with beta = 1), which
    keeps the noise at unit variance. MotionDirector adds this to the ordinary squared error.

    Args:
        predicted, target: (B, C, T, H, W) velocities (or noises), any float dtype; reduced in float32.
        anchor: the frame to subtract, drawn anew each step.
    Returns: () float32, mean over all elements.
    """

    def without_appearance(v: torch.Tensor) -> torch.Tensor:
        v = v.float()
        return 2**0.5 * v - v[:, :, anchor : anchor + 1]

    return (without_appearance(predicted) - without_appearance(target)).square().mean()

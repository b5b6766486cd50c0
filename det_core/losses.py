"""DeT's training losses (arXiv 2503.17350, eq. 3-5), all taken on the x0 prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .tracks import Tracks


def denoising_loss(x0_pred: torch.Tensor, x0: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted squared error of the x0 prediction.                                    (DeT, L_DL of eq. 5)

    With the weights of `Denoiser.loss_weight` this is the squared error of the velocity: 1 / (1 - alpha_bar) for
    v-prediction, which is also what the released code uses, and 1 / sigma^2 for flow matching.

    Args:
        x0_pred, x0: (B, C, T, H, W), any float dtype; reduced in float32.
        weight: (B,).
    Returns: () float32, mean over all elements.
    """
    error = (x0_pred.float() - x0.float()).square().flatten(1).mean(1)
    return (weight.float() * error).mean()


def tracking_loss(
    x0_pred: torch.Tensor, tracks: Tracks, *, sampling: str = "bilinear", reduction: str = "visible"
) -> torch.Tensor:
    """Penalise x0 predictions that change along a tracked point.                                  (DeT, eq. 4)

    Convention: `tracks` are those of the source video, at pixel frames; they are mapped to latent frames and cells by
        `Tracks.to_grid`. A pair of consecutive frames counts only where the point is visible in both: the paper's
        min(V(t+1), V(t)). The released code masks with V(t+1) alone; we follow the paper.
    Args:
        x0_pred: (B, C, T, H, W), any float dtype; reduced in float32. Its T is the number of latent frames.
        sampling: "bilinear" reads between cells; "nearest" reads the cell a point falls into, as in the released code.
        reduction: "visible" divides by the number of counted pairs; "all" by the number of all pairs, as the released
            code does. Both are means over channels as well, so that they agree where every point is visible.
    Returns: () float32; 0 (with a gradient) if no pair counts.
    """
    batch, channels, frames, height, width = x0_pred.shape
    points, visible = tracks.to_grid(frames, height, width)  # (N, T, 2) in cells, (N, T)
    points, visible = points.to(x0_pred.device), visible.to(x0_pred.device)
    scale = torch.tensor([width, height], device=points.device, dtype=points.dtype)
    grid = (points.transpose(0, 1) / scale * 2 - 1)[:, None]  # (T, 1, N, 2) in [-1, 1], cell edges at the ends
    per_frame = x0_pred.float().transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
    features = F.grid_sample(
        per_frame, grid.float().repeat(batch, 1, 1, 1), mode=sampling, padding_mode="border", align_corners=False
    )
    features = features[:, :, 0].unflatten(0, (batch, frames))  # (B, T, C, N)
    both = (visible[:, 1:] & visible[:, :-1]).T  # (T-1, N)
    change = (features[:, 1:] - features[:, :-1]).square().mean(2) * both
    if reduction == "visible":
        return change.sum() / (batch * both.sum()).clamp(min=1)
    if reduction == "all":
        return change.sum() / max(1, batch * both.numel())
    raise ValueError(f'reduction is "visible" or "all", not {reduction!r}')

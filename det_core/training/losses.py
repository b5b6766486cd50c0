"""DeT's training losses (arXiv 2503.17350, eq. 3-5), all taken on the x0 prediction, and the velocity it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..tracking.tracks import Tracks


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


@dataclass(frozen=True)
class Followed:
    """Tracks made ready for latents of one size, on their device.

    grid: (T, 1, N, 2) positions in [-1, 1] with cell edges at the ends.
    both: (T-1, N) bool, visible in this latent frame and in the next.
    """

    grid: torch.Tensor
    both: torch.Tensor

    @classmethod
    def of(cls, tracks: Tracks, shape: torch.Size, device: torch.device) -> Followed:
        """`shape` is that of the latents, (B, C, T, H, W)."""
        frames, height, width = shape[-3:]
        points, visible = tracks.to_grid(frames, height, width)  # (N, T, 2) in cells, (N, T)
        size = torch.tensor([width, height], device=points.device, dtype=points.dtype)
        grid = (points.transpose(0, 1) / size * 2 - 1)[:, None]
        both = (visible[:, 1:] & visible[:, :-1]).T
        return cls(grid.float().to(device), both.to(device))


def tracking_loss(
    x0_pred: torch.Tensor, tracks: Tracks | Followed, *, sampling: str = "bilinear", reduction: str = "visible"
) -> torch.Tensor:
    """Penalise x0 predictions that change along a tracked point.                                  (DeT, eq. 4)

    Convention: `tracks` are those of the source video, at pixel frames, or at latent frames, as a training's views have
        them (`training/views.py` knows the base's frames); `Tracks.to_grid` brings them to cells. A pair of consecutive
        frames counts only where the point is visible in both: the paper's min(V(t+1), V(t)). The released code masks
        with V(t+1) alone; we follow the paper.
    Args:
        x0_pred: (B, C, T, H, W), any float dtype; reduced in float32. Its T is the number of latent frames.
        tracks: or what `Followed.of` made of them once for this size.
        sampling: "bilinear" reads between cells; "nearest" reads the cell a point falls into, as in the released code.
        reduction: "visible", the paper's mean and the default, divides by the number of counted pairs; "all" by the
            number of all pairs, as the released code does. Both are means over channels as well, so that they agree
            where every point is visible. Measured with 38% of the pairs seen, the two teach the same
            (docs/understand/method.md); with "visible" the term weighs the same however many points a tracker loses.
    Returns: () float32; 0 (with a gradient) if no pair counts.
    """
    if isinstance(tracks, Tracks):
        tracks = Followed.of(tracks, x0_pred.shape, x0_pred.device)
    batch, _, frames, _, _ = x0_pred.shape
    per_frame = x0_pred.float().transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
    features = F.grid_sample(
        per_frame, tracks.grid.repeat(batch, 1, 1, 1), mode=sampling, padding_mode="border", align_corners=False
    )
    features = features[:, :, 0].unflatten(0, (batch, frames))  # (B, T, C, N)
    change = (features[:, 1:] - features[:, :-1]).square().mean(2) * tracks.both
    if reduction == "visible":
        return change.sum() / (batch * tracks.both.sum()).clamp(min=1)
    if reduction == "all":
        return change.sum() / max(1, batch * tracks.both.numel())
    raise ValueError(f'reduction is "visible" or "all", not {reduction!r}')


def velocities(
    x0_pred: torch.Tensor, x0: torch.Tensor, noise: torch.Tensor, weight: torch.Tensor, prediction: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The velocity a model predicted and the true one, from its x0 prediction.

    Args:
        x0_pred, x0, noise: (B, C, T, H, W).
        weight: (B,) of `Denoiser.loss_weight`: 1 / sigma^2 for flow, 1 / (1 - alpha_bar) for v-prediction. Both fix the
            noise level.
        prediction: "flow" (v = noise - x0) or "v" (v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0).
    Returns: (predicted, target), float32.
    """
    weight = weight.float()[:, None, None, None, None]
    x0, noise = x0.float(), noise.float()
    if prediction == "flow":
        target = noise - x0
    else:
        target = (1 - 1 / weight).clamp(min=0).sqrt() * noise - weight.rsqrt() * x0
    return target - weight.sqrt() * (x0_pred.float() - x0), target

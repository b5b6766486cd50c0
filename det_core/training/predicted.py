"""What a step of a LoRA's training looks at: the source with noise at one time, and what the model makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..models.compute.precision import autocast
from ..models.denoiser import Condition, Denoiser
from .config import FitConfig
from .losses import velocities


@dataclass(frozen=True)
class Predicted:
    """One step's prediction and truth: clean latents and velocities, (B, C, T, H, W); `weight` is (B,) of
    `Denoiser.loss_weight`, `anchor` a random frame."""

    x0: torch.Tensor
    true_x0: torch.Tensor
    velocity: torch.Tensor
    true_velocity: torch.Tensor
    weight: torch.Tensor
    anchor: int


def predicted(
    denoiser: Denoiser, latents: torch.Tensor, cond: Condition, config: FitConfig, generator: torch.Generator
) -> Predicted:
    """Draw time, noise and anchor, in this order, and run one forward; latents (1, C, T, H, W)."""
    x0 = latents.to(denoiser.device).expand(config.batch, *latents.shape[1:])
    cond = {k: v.expand(config.batch, *v.shape[1:]) for k, v in cond.items()}
    t = denoiser.sample_t(config.batch, generator)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    anchor = int(torch.randint(x0.shape[2], (), generator=generator))
    with autocast(x0.device, config.bf16):
        x0_pred = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)
    weight = denoiser.loss_weight(t)
    velocity, truth = velocities(x0_pred, x0, noise, weight, denoiser.spec.prediction)
    return Predicted(x0_pred, x0, velocity, truth, weight, anchor)

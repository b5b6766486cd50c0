"""The methods of the comparison that train a LoRA on the attention projections: what each asks of the prediction.

DreamBooth asks for the clip itself; MotionDirector and SMA ask for how its frames differ, to leave its look behind. The
originals of the last two train temporal attention, which a DiT does not have apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..models.denoiser import Condition, Denoiser
from ..training.config import FitConfig
from ..training.losses import denoising_loss, velocities
from .motion_director import debiased_loss
from .spectral import GLOBAL_WEIGHT, LOCAL_WEIGHT, global_loss, local_loss, residual_loss


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


def dreambooth(p: Predicted) -> dict[str, torch.Tensor]:
    """The denoising loss alone (arXiv 2208.12242; DeT's comparison trains its LoRA variant, without prior images)."""
    return {"denoising": denoising_loss(p.x0, p.true_x0, p.weight)}


def motion_director(p: Predicted) -> dict[str, torch.Tensor]:
    """The denoising loss and the debiased one, weighted alike (arXiv 2310.08465)."""
    return {**dreambooth(p), "debiased": debiased_loss(p.velocity, p.true_velocity, p.anchor)}


def spectral(p: Predicted) -> dict[str, torch.Tensor]:
    """VMC's loss and SMA's two, by weight (arXiv 2403.15249)."""
    return {
        "residual": residual_loss(p.velocity, p.true_velocity),
        "global": GLOBAL_WEIGHT * global_loss(p.x0, p.true_x0),
        "local": LOCAL_WEIGHT * local_loss(p.x0, p.true_x0),
    }


@dataclass(frozen=True)
class DrawnForLoRA:
    """One step's loss: noise, time, one forward of the source, the weighted terms of `loss` and their sum, "total"."""

    denoiser: Denoiser
    latents: torch.Tensor  # (1, C, T, H, W) of the source
    cond: Condition
    config: FitConfig
    loss: Callable[[Predicted], dict[str, torch.Tensor]]

    def __call__(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        denoiser, config = self.denoiser, self.config
        x0 = self.latents.to(denoiser.device).expand(config.batch, *self.latents.shape[1:])
        cond = {k: v.expand(config.batch, *v.shape[1:]) for k, v in self.cond.items()}
        t = denoiser.sample_t(config.batch, generator)
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        anchor = int(torch.randint(x0.shape[2], (), generator=generator))
        with torch.autocast(x0.device.type, torch.bfloat16, config.bf16):
            x0_pred = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)
        weight = denoiser.loss_weight(t)
        velocity, truth = velocities(x0_pred, x0, noise, weight, denoiser.spec.prediction)
        terms = self.loss(Predicted(x0_pred, x0, velocity, truth, weight, anchor))
        return {**terms, "total": sum(terms.values())}

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
from ..training.losses import denoising_loss
from ..training.predicted import Predicted, predicted
from .motion_director import debiased_loss
from .spectral import GLOBAL_WEIGHT, LOCAL_WEIGHT, global_loss, local_loss, residual_loss


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
        terms = self.loss(predicted(self.denoiser, self.latents, self.cond, self.config, generator))
        return {**terms, "total": sum(terms.values())}

"""One step's loss of a motion adapter: a view of the clip, noise, time, one forward, the terms of DeT's eq. 5."""

from __future__ import annotations

import torch

from ..models.compute.precision import autocast
from ..models.denoiser import Condition, Denoiser
from ..tracking.tracks import Tracks
from .config import TrainConfig
from .losses import Followed, denoising_loss, tracking_loss
from .views import training_views


class DrawnFromViews:
    """Called with a run's generator, gives the named terms of one step and their weighted sum, "total".

    Attributes:
        shape: of the latents that a step looks at, (1, C, T, H, W).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        latents: torch.Tensor,
        cond: Condition,
        tracks: Tracks | None,
        config: TrainConfig,
        full_size: tuple[int, int] | None = None,
    ):
        """See `train_motion_adapter`. Raises: ValueError if the model cannot be shown parts of a clip, or several."""
        family = denoiser.spec.family
        if family.one_at_a_time and config.batch > 1:
            raise ValueError(f"{family.title} takes one video at a time: train with a batch of 1, not {config.batch}")
        self.denoiser, self.config, self.cond = denoiser, config, cond
        self.views = training_views(
            denoiser.spec,
            latents.to(denoiser.device),
            tracks,
            scale=config.scale,
            full_size=full_size,
            frame_window=config.frame_window,
        )
        with self.views[0].placed(denoiser):
            pass  # a model that cannot do this says so now
        self.shape = self.views[0].latents.shape
        self.track_limit = config.draw.track_limit(denoiser.spec.track_limit, denoiser.time_at)
        self.followed = [
            Followed.of(view.tracks, view.latents.shape, denoiser.device)
            if view.tracks and config.tracking_weight
            else None
            for view in self.views
        ]

    def __call__(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """On a GPU nothing here waits for the device."""
        denoiser, config = self.denoiser, self.config
        index = int(torch.randint(len(self.views), (), generator=generator)) if len(self.views) > 1 else 0
        view, followed = self.views[index], self.followed[index]
        x0 = view.latents.expand(config.batch, *view.latents.shape[1:])
        cond = {k: v.expand(config.batch, *v.shape[1:]) for k, v in self.cond.items()}
        t = denoiser.sample_t(config.batch, generator, config.draw)
        # The released code tracks only where the noise is low enough (t <= 400): above, x0 predictions are too blurred.
        low_noise = (t <= self.track_limit).nonzero().flatten()
        t, low_noise = _sent(t, x0.device), _sent(low_noise, x0.device)
        noise = _sent(torch.randn(x0.shape, generator=generator, pin_memory=x0.is_cuda), x0.device).to(x0)
        with view.placed(denoiser), autocast(x0.device, config.bf16):
            x0_pred = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)
        terms = {"denoising": denoising_loss(x0_pred, x0, denoiser.loss_weight(t))}
        total = config.denoising_weight * terms["denoising"]
        if followed is not None and len(low_noise):
            tracked = tracking_loss(
                x0_pred.index_select(0, low_noise),
                followed,
                sampling=config.tracking_sampling,
                reduction=config.tracking_reduction,
            )
            terms["tracking"] = tracked
            total = total + config.tracking_weight * tracked * (len(low_noise) / config.batch)
        else:
            terms["tracking"] = torch.full_like(terms["denoising"], float("nan"), requires_grad=False)
        return {**terms, "total": total}


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, without waiting for what runs there."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)

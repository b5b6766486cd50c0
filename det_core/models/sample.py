"""Generate a video's latents from a prompt: guidance, the base model's own sampler, and the adapter's kept blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .denoiser import Adapter, Condition, DiffusersDenoiser


@dataclass(frozen=True)
class ModelAt:
    """A base model at one time of a sampling. `t` is (); without `uncond`, or at cfg 1, there is no
    classifier-free guidance. A model with embedded guidance is told `cfg` instead."""

    denoiser: DiffusersDenoiser
    t: torch.Tensor
    cond: Condition
    uncond: Condition | None = None
    cfg: float = 1.0

    def with_prompt(self, x: torch.Tensor) -> torch.Tensor:
        """The velocity (B, C, T, H, W) that the prompt alone gives."""
        return self.denoiser.predict_velocity(x, self.t.expand(len(x)), self.cond, self.cfg)

    def velocity(self, x: torch.Tensor) -> torch.Tensor:
        """The velocity to sample with."""
        if self.uncond is None or self.cfg == 1.0 or self.denoiser.spec.embedded_guidance:
            return self.with_prompt(x)
        both = {k: torch.cat([self.uncond[k], v]) for k, v in self.cond.items()}
        velocity = self.denoiser.predict_velocity(torch.cat([x, x]), self.t.expand(2 * len(x)), both)
        without, with_prompt = velocity.chunk(2)
        return without + self.cfg * (with_prompt - without)

    def clean(self, x: torch.Tensor) -> torch.Tensor:
        """The clean latents that `velocity` leads to."""
        signal, noise = self.denoiser.level(self.t)
        velocity = self.velocity(x)
        if self.denoiser.spec.prediction == "v":
            return signal * x - noise * velocity
        return x - noise * velocity

    def velocity_towards(self, x: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        """The inverse of `clean`: the velocity that leads from `x` to `x0`."""
        signal, noise = self.denoiser.level(self.t)
        return ((signal * x if self.denoiser.spec.prediction == "v" else x) - x0) / noise


class Guidance(Protocol):
    """What may move the latents while they are sampled."""

    def step(self, x: torch.Tensor, index: int, steps: int, at: ModelAt) -> tuple[torch.Tensor, torch.Tensor]:
        """The latents to take step `index` of `steps` from, and the velocity to take it with."""


@torch.no_grad()
def sample(
    denoiser: DiffusersDenoiser,
    cond: Condition,
    uncond: Condition | None,
    noise: torch.Tensor,
    *,
    steps: int | None = None,
    cfg: float | None = None,
    adapter: Adapter | None = None,
    keep: Iterable[int] | None = None,
    strength: float = 1.0,
    guidance: Guidance | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Denoise `noise` (B, C, T, H, W) into latents of that shape, as the base model's own pipeline does.

    The paper samples CogVideoX with 50 DDIM steps and guidance 6, flow models with their own sampler; `steps` and
    `cfg` default to the base model's own.

    Args:
        cond, uncond: encoded prompts, batch B; without `uncond`, or at cfg 1, there is no guidance. A model with
            embedded guidance (HunyuanVideo) is told `cfg` and run once a step; `uncond` is not looked at.
        adapter: with `keep` the blocks whose kernels stay; None means those the adapter recommends (the paper drops the
            last 65%). `strength` scales what the kernels add.
        guidance: moves the latents of some steps (`det_core.guidance`); works beside an adapter.
        on_step: called as on_step(done, total); may raise to stop.
    """
    spec = denoiser.spec
    steps = spec.defaults.sample_steps if steps is None else steps
    cfg = spec.defaults.cfg if cfg is None else cfg
    attached = nullcontext()
    if adapter is not None and strength:
        attached = denoiser.attached(adapter, keep=adapter.keep if keep is None else keep, strength=strength)
    x = noise.to(denoiser.device, torch.float32)
    # Where several latent frames make one token, the pipeline denoises frames to fill it and cuts them off at the end.
    # It draws their noise anew; that of the last frames, mirrored, is as good.
    extra = -x.shape[2] % spec.patch[0]
    x = torch.cat([x[:, :, x.shape[2] - extra :].flip(-1), x], dim=2)
    scheduler = spec.family.schedule(spec, denoiser.scheduler, steps, x.shape, denoiser.device)
    with attached:
        for i, t in enumerate(scheduler.timesteps):
            at = ModelAt(denoiser, t, cond, uncond, cfg)
            moved, velocity = (x, at.velocity(x)) if guidance is None else guidance.step(x, i, steps, at)
            if moved is not x:
                _keep_moved(scheduler, i)
            x = scheduler.step(velocity, t, moved, return_dict=False)[0]
            if on_step is not None:
                on_step(i + 1, steps)
    return x[:, :, extra:]


def _keep_moved(scheduler: Any, step: int) -> None:
    """Leave out the corrector (UniPC) at a step: it computes the latents anew from those of the step before, without
    what has moved them since."""
    if hasattr(scheduler, "disable_corrector"):
        scheduler.disable_corrector = [*scheduler.disable_corrector, step - 1]

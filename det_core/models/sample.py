"""Generate a video's latents from a prompt: guidance, the base model's own sampler, and the adapter's kept blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import torch

from ..adapter.attach import attach
from ..adapter.motion_adapter import MotionAdapter
from .denoiser import Condition, DiffusersDenoiser


@torch.no_grad()
def sample(
    denoiser: DiffusersDenoiser,
    cond: Condition,
    uncond: Condition | None,
    noise: torch.Tensor,
    *,
    steps: int | None = None,
    cfg: float | None = None,
    adapter: MotionAdapter | None = None,
    keep: Iterable[int] | None = None,
    strength: float = 1.0,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Denoise `noise` (B, C, T, H, W) into latents of that shape.

    The paper samples CogVideoX with 50 DDIM steps and guidance 6, flow models with their Euler sampler; `steps` and
    `cfg` default to the base model's own.

    Args:
        cond, uncond: encoded prompts, batch B; without `uncond`, or at cfg 1, there is no guidance.
        adapter: with `keep` the blocks whose kernels stay; None means those the adapter recommends (the paper drops the
            last 65%). `strength` scales what the kernels add.
        on_step: called as on_step(done, total); may raise to stop.
    """
    spec = denoiser.spec
    steps = spec.defaults.sample_steps if steps is None else steps
    cfg = spec.defaults.cfg if cfg is None else cfg
    guided = uncond is not None and cfg != 1.0
    if guided:
        cond = {k: torch.cat([uncond[k], v]) for k, v in cond.items()}
    scheduler = _scheduler(denoiser)
    scheduler.set_timesteps(steps, device=denoiser.device)
    if adapter is None or strength == 0.0:
        attached = nullcontext()
    else:
        attached = attach(denoiser.transformer, adapter, keep=adapter.keep if keep is None else keep, strength=strength)
    x = noise.to(denoiser.device, torch.float32)
    with attached:
        for i, t in enumerate(scheduler.timesteps):
            x_in = torch.cat([x, x]) if guided else x
            velocity = denoiser.predict_velocity(x_in, t.expand(len(x_in)), cond)
            if guided:
                without, with_prompt = velocity.chunk(2)
                velocity = without + cfg * (with_prompt - without)
            x = scheduler.step(velocity, t, x, return_dict=False)[0]
            if on_step is not None:
                on_step(i + 1, steps)
    return x


def _scheduler(denoiser: DiffusersDenoiser):
    """A fresh scheduler: DDIM for v-prediction (as the paper samples CogVideoX), Euler for flow matching."""
    from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler

    if denoiser.spec.prediction == "v":
        return CogVideoXDDIMScheduler.from_config(denoiser.scheduler.config)
    if isinstance(denoiser.scheduler, FlowMatchEulerDiscreteScheduler):
        return FlowMatchEulerDiscreteScheduler.from_config(denoiser.scheduler.config)
    return FlowMatchEulerDiscreteScheduler(shift=denoiser.spec.defaults.shift)

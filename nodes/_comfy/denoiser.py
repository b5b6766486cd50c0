"""A ComfyUI MODEL as the denoiser that det_core trains an adapter through.

Convention: latents are in the model's own space (after `process_latent_in`); `t` is (B,), from 0 (clean) to 1000
    (noise) as in det_core. The conditioning is bound at construction; the one that the trainer passes is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_patcher
import comfy.samplers
import torch
from torch import nn

from ...det_core.attach import tapped
from ...det_core.dit import DiTSpec


class ComfyDenoiser:
    """det_core's Denoiser over a loaded comfy BaseModel."""

    def __init__(self, patcher, model, spec: DiTSpec, cond: dict, model_options: dict):
        """cond: one processed positive condition (it carries `model_conds`); model_options: those of the sampling."""
        self.patcher, self.model, self.spec = patcher, model, spec
        self.device = patcher.load_device
        self._cond, self._options = cond, model_options
        self._grid: tuple[int, int, int] | None = None
        self._taps = None

    # t in det_core's units <-> sigma in the model's
    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        if self.spec.prediction == "v":
            return self.model.model_sampling.sigmas.to(self.device)[t.long().cpu()]
        return t.to(self.device, torch.float32) / 1000

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t as ComfyUI's samplers hold it; for v-prediction the model itself scales it to unit variance."""
        return self.model.model_sampling.noise_scaling(self._sigma(t), noise, x0, False)

    def predict_x0(self, x_t: torch.Tensor, t: torch.Tensor, cond: dict) -> torch.Tensor:
        sigma = self._sigma(t)
        self._grid = self.spec.grid(x_t.shape)
        part = comfy.samplers.get_area_and_mult(self._cond, x_t, sigma)
        arguments = comfy.samplers.cond_cat([part.conditioning])
        options = comfy.model_patcher.create_model_options_clone(self._options)["transformer_options"]
        options.update(cond_or_uncond=[0], uuids=[part.uuid], sigmas=sigma, sample_sigmas=sigma)
        return self.model.apply_model(x_t, sigma, transformer_options=options, **arguments).float()

    def loss_weight(self, t: torch.Tensor) -> torch.Tensor:
        """1 / sigma^2 for flow, (1 + sigma^2) / sigma^2 for v-prediction: the error of x0 becomes the velocity's."""
        square = self._sigma(t).square()
        return 1 / square + 1 if self.spec.prediction == "v" else 1 / square

    def sample_t(self, count: int, generator: torch.Generator, power: float = 1.0) -> torch.Tensor:
        t = 1000 * torch.rand(count, generator=generator) ** power
        return (t.floor() if self.spec.prediction == "v" else t.clamp(min=1.0)).to(self.device)

    def tracked(self, t: torch.Tensor) -> torch.Tensor:
        return t <= self.spec.track_limit

    @contextmanager
    def attached(self, adapter: nn.Module) -> Iterator[None]:
        """Taps stay in place from step to step: gradient checkpointing runs the blocks again during backward."""

        def enter():
            self._taps = tapped(self.model.diffusion_model, self.spec, adapter.blocks, lambda: self._grid)
            self._taps.__enter__()

        self._enter = enter
        enter()
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._taps is not None:
            taps, self._taps = self._taps, None
            taps.__exit__(None, None, None)

    @contextmanager
    def detached(self) -> Iterator[None]:
        """The bare model for a moment, between two steps: to sample with it as an artist would."""
        self._leave()
        try:
            yield
        finally:
            self._enter()

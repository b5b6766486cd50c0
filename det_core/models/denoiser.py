"""What training and sampling need of a base model, and the implementation over diffusers' transformers.

Convention: latents are (B, C, T, H, W) in the model's own space (already scaled by the VAE's factor); `t` is (B,) in
    the scheduler's units, 0 (clean) to 1000 (noise), for v-prediction and for flow models alike. A condition is a
    dictionary of keyword arguments of the transformer, each a tensor whose first axis is the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

from .compute.checkpointing import checkpointed
from .compute.offload import offload_blocks
from .compute.precision import autocast, stored_in
from .families import DiTSpec, spec_for
from .families.positions import Positions, token_positions
from .identity import weights_told
from .noise import UNIFORM, Noise, shifted

Condition = dict[str, torch.Tensor]


class Adapter(Protocol):
    """What a denoiser can install: an nn.Module that knows how."""

    def attached_to(
        self, transformer: nn.Module, *, keep: Iterable[int] | None = None, strength: float = 1.0
    ) -> AbstractContextManager:
        """Act in a diffusers transformer, as `adapter.attach.attach`; what has no blocks to choose has no `keep`."""


class Denoiser(Protocol):
    """The face a base model shows to the training loop. All tensors are on `device`."""

    spec: DiTSpec
    device: torch.device
    transformer: nn.Module

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noised latents x_t that the model is asked to clean."""

    def predict_x0(self, x_t: torch.Tensor, t: torch.Tensor, cond: Condition) -> torch.Tensor:
        """The prediction of the clean latents (eq. 3 for v-prediction, x_t - sigma v for flow)."""

    def loss_weight(self, t: torch.Tensor) -> torch.Tensor:
        """(B,) factor that makes a squared error of x0 the squared error of the velocity."""

    def sample_t(self, count: int, generator: torch.Generator, noise: Noise = UNIFORM) -> torch.Tensor:
        """(count,) random times to train at, from a CPU generator. Best left on the CPU: the trainer decides by them
        and moves them."""

    def time_at(self, left: float) -> float:
        """The time at which the model is called when the share `left` of a sampling is to go: 1000 at 1, 0 at 0."""

    def at_positions(
        self, times: Positions = None, rows: Positions = None, columns: Positions = None
    ) -> AbstractContextManager:
        """Inside, latent frames, rows and columns of cells stand at these positions of the whole clip.

        Raises: ValueError if the model's positions cannot be set.
        """

    def attached(self, adapter: Adapter) -> AbstractContextManager:
        """Install `adapter` in the model; it must stay installed until backward is done."""

    def checkpointed(self, policy: str) -> AbstractContextManager:
        """Inside, blocks keep for backward what `policy` says; see `checkpointing.checkpointed`."""


class DiffusersDenoiser:
    """A diffusers video transformer and its scheduler: v-prediction for CogVideoX, flow matching for the rest."""

    def __init__(
        self,
        transformer: nn.Module,
        scheduler=None,
        *,
        guidance: float | None = None,
        device: torch.device | str | None = None,
        bf16: bool = False,
    ):
        """
        Args:
            scheduler: of diffusers; sampling takes its settings. v-prediction needs it for training, too: its
                `alphas_cumprod` is the noise schedule.
            guidance: what a guidance-distilled model (HunyuanVideo) is told, in training and unless sampling says
                else; None takes the number it is sampled with.
            device: where calls happen, if the weights are elsewhere (`offload`).
            bf16: compute under bfloat16 autocast; see `precision.Compute`.
        """
        self.transformer, self.scheduler, self.spec = transformer, scheduler, spec_for(transformer)
        self.guidance = self.spec.defaults.cfg if guidance is None else guidance
        self.device = next(transformer.parameters()).device if device is None else torch.device(device)
        self.dtype = stored_in(transformer)
        self.bf16 = bf16
        if self.spec.prediction == "v":
            self._alphas = scheduler.alphas_cumprod.to(self.device, torch.float32)

    @cached_property
    def weights_told(self) -> dict[str, str]:
        """See `identity.weights_told`."""
        return weights_told(self.transformer, self.spec)

    def offload(self) -> None:
        """Keep the weights in RAM, one block's on the device at a time; see `offload_blocks`."""
        self.weights_told = weights_told(self.transformer, self.spec)  # they are placeholders from now on
        offload_blocks(self.transformer, self.spec, self.device)

    def _alpha(self, t: torch.Tensor) -> torch.Tensor:
        return self._alphas[self._here(t).long()][:, None, None, None, None]

    def _here(self, t: torch.Tensor) -> torch.Tensor:
        return t.to(self.device, non_blocking=True)

    def level(self, t: torch.Tensor) -> tuple[float, float]:
        """(signal, noise) at one time `t` (): latents are signal * x0 + noise * eps."""
        if self.spec.prediction == "v":
            alpha = self._alphas[int(t)]
            return alpha.sqrt().item(), (1 - alpha).sqrt().item()
        return 1 - t.item() / 1000, t.item() / 1000

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if self.spec.prediction == "v":
            alpha = self._alpha(t)
            return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        sigma = (t / 1000)[:, None, None, None, None].to(x0)
        return (1 - sigma) * x0 + sigma * noise

    def predict_velocity(
        self, x_t: torch.Tensor, t: torch.Tensor, cond: Condition, guidance: float | None = None
    ) -> torch.Tensor:
        """The transformer's raw answer, (B, C, T, H, W) float32; `guidance` is for models that are told it."""
        told = self.guidance if guidance is None else guidance
        with autocast(self.device, True) if self.bf16 else nullcontext():
            return self.spec.family.call(self.transformer, x_t.to(self.dtype), self._here(t), cond, told).float()

    def predict_x0(self, x_t: torch.Tensor, t: torch.Tensor, cond: Condition) -> torch.Tensor:
        velocity = self.predict_velocity(x_t, t, cond)
        if self.spec.prediction == "v":
            alpha = self._alpha(t)
            return alpha.sqrt() * x_t - (1 - alpha).sqrt() * velocity
        return x_t - (t / 1000)[:, None, None, None, None].to(x_t) * velocity

    def loss_weight(self, t: torch.Tensor) -> torch.Tensor:
        if self.spec.prediction == "v":
            return 1 / (1 - self._alpha(t)).flatten()
        return (1000 / self._here(t).clamp(min=1)) ** 2

    def sample_t(self, count: int, generator: torch.Generator, noise: Noise = UNIFORM) -> torch.Tensor:
        """Whole timesteps for v-prediction, as in the released code, any sigma for flow. Of two experts each gets half
        of uniform draws, over its own times."""
        t = noise.times(torch.rand(count, generator=generator), self.time_at)
        boundary = self.spec.boundary
        if boundary is not None and noise.span == UNIFORM.span and not noise.as_sampled:
            t = torch.where(t < 500, t / 500 * boundary, boundary + (t / 500 - 1) * (1000 - boundary))
        return t.floor() if self.spec.prediction == "v" else t.clamp(min=1.0)

    def time_at(self, left: float) -> float:
        """CogVideoX is sampled at evenly spaced times, a flow model as its shift says."""
        return 1000 * left if self.spec.prediction == "v" else shifted(left, self.spec.defaults.shift)

    def at_positions(
        self, times: Positions = None, rows: Positions = None, columns: Positions = None
    ) -> AbstractContextManager:
        return token_positions(self.transformer, times, rows, columns)

    def attached(self, adapter: Adapter, **how) -> AbstractContextManager:
        """`how`: `keep` and `strength` of `Adapter.attached_to`."""
        return adapter.attached_to(self.transformer, **how)

    def checkpointed(self, policy: str, first: int | None = None) -> AbstractContextManager:
        return checkpointed(self.transformer, self.spec, policy, first)

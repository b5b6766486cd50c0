"""A ComfyUI MODEL as the denoiser that det_core trains an adapter through.

Convention: latents are in the model's own space (after `process_latent_in`); `t` is (B,), from 0 (clean) to 1000
    (noise) as in det_core. The conditioning is bound at construction; the one that the trainer passes is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import comfy.model_patcher
import comfy.samplers
import torch
from torch import nn

from ....det_core.adapter.attach import tapped
from ....det_core.adapter.beside_attention import BesideAttention
from ....det_core.adapter.kernel import Grid
from ....det_core.models.compute.checkpointing import checkpointed
from ....det_core.models.denoiser import Adapter
from ....det_core.models.families import DiTSpec, unwrapped
from ....det_core.models.families.positions import Positions, native_positions
from ....det_core.models.noise import UNIFORM, Noise
from ..sampling.call import stream_shapes, video_tokens
from ..sampling.self_test import SelfTest
from .conditions import Conditions


class ComfyDenoiser:
    """det_core's Denoiser over a loaded comfy BaseModel."""

    def __init__(
        self,
        patcher,
        model,
        spec: DiTSpec,
        conditions: Conditions,
        model_options: dict,
        *,
        load: Callable[[], None],
        empty: Conditions | None = None,
        guidance: float = 1.0,
    ):
        """
        Args:
            conditions: what the caption says of the clip. model_options: those of the sampling.
            load: loads the MODEL and what its conditioning needs for training, a step's memory left free beside them;
                to be called again when something else has run in between.
            empty, guidance: for a base model whose one answer for a caption holds the guidance already. `predict_x0`
                is then that answer with `guidance` taken out again: (x0(caption) + (g - 1) x0(empty)) / g, where the
                bare model makes x0(empty).
        """
        self.patcher, self.model = patcher, model
        self.transformer: nn.Module = unwrapped(model.diffusion_model)
        self.device = patcher.load_device
        self.conditions, self._options = conditions, model_options
        self.load, self._empty, self._guidance = load, empty, guidance
        self._times: Positions = None
        self._extra: dict = {}
        self._grid: Grid | None = None
        self._self_test = SelfTest()
        self._installed: list[_Installed] = []
        call = self._call(conditions, conditions.x0, torch.ones(1, device=self.device), None)
        video = video_tokens(model, spec, conditions.x0, *call)
        self._self_test.check_modules(model, video)
        self.spec = video.spec

    # t in det_core's units <-> sigma in the model's
    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        if self.spec.prediction == "v":
            return self.model.model_sampling.sigmas.to(self.device)[t.long().cpu()]
        return t.to(self.device, torch.float32) / 1000

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t as ComfyUI's samplers hold it; for v-prediction the model itself scales it to unit variance."""
        return self.model.model_sampling.noise_scaling(self._sigma(t), noise, x0, False)

    def predict_x0(self, x_t: torch.Tensor, t: torch.Tensor, cond: dict) -> torch.Tensor:
        if self._empty is None:
            return self._predicted(x_t, t, self.conditions)
        with torch.no_grad(), self.detached():
            without = self._predicted(x_t, t, self._empty)
        return (self._predicted(x_t, t, self.conditions) + (self._guidance - 1) * without) / self._guidance

    def _predicted(self, x_t: torch.Tensor, t: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        sigma = self._sigma(t)
        frames = conditions.frames(x_t, self._times)
        x_t = conditions.seen(x_t, sigma, frames)
        arguments, options = self._call(conditions, x_t, sigma, frames)
        video = video_tokens(self.model, self.spec, x_t, arguments, options)
        self._grid = video.grid
        packed = x_t.reshape(len(x_t), 1, -1) if len(arguments.get("latent_shapes") or ()) > 1 else x_t
        with self._self_test.around(self.model, video, options):
            x0 = self.model.apply_model(packed, sigma, transformer_options=options, **arguments).float()
        return conditions.made(x0.reshape(x_t.shape), frames)

    def _call(
        self, conditions: Conditions, x_t: torch.Tensor, sigma: torch.Tensor, frames: list[int] | None
    ) -> tuple[dict, dict]:
        """Keyword arguments and `transformer_options` of a call of the model, as a sampler makes them."""
        part = comfy.samplers.get_area_and_mult(conditions.of(frames), x_t, sigma)
        options = comfy.model_patcher.create_model_options_clone(self._options)["transformer_options"]
        to_clean = torch.cat([sigma[:1], sigma.new_zeros(1)])  # some models read the next sigma, too: straight to x0
        options.update(self._extra, cond_or_uncond=[0], uuids=[part.uuid], sigmas=sigma, sample_sigmas=to_clean)
        arguments = comfy.samplers.cond_cat([part.conditioning])
        if "latent_shapes" in arguments:
            arguments["latent_shapes"] = stream_shapes(self.model, x_t.shape)
        return arguments, options

    def loss_weight(self, t: torch.Tensor) -> torch.Tensor:
        """1 / sigma^2 for flow, (1 + sigma^2) / sigma^2 for v-prediction: the error of x0 becomes the velocity's."""
        square = self._sigma(t).square()
        return 1 / square + 1 if self.spec.prediction == "v" else 1 / square

    def sample_t(self, count: int, generator: torch.Generator, noise: Noise = UNIFORM) -> torch.Tensor:
        t = noise.times(torch.rand(count, generator=generator), self.time_at)
        return (t.floor() if self.spec.prediction == "v" else t.clamp(min=1.0)).to(self.device)

    def time_at(self, left: float) -> float:
        """By the MODEL's own schedule, with the shift that a node has set."""
        return time_at(self.model.model_sampling, self.spec, left)

    @contextmanager
    def at_positions(
        self, times: Positions = None, rows: Positions = None, columns: Positions = None
    ) -> Iterator[None]:
        """Inside, latent frames, rows and columns of cells stand at these positions of the whole clip."""
        earlier, self._times = self._times, times
        try:
            with native_positions(self.transformer, self.spec, times, rows, columns) as options:
                with self.options(**options):
                    yield
        finally:
            self._times = earlier

    @contextmanager
    def options(self, **extra) -> Iterator[None]:
        """Inside, every call of the model has these entries more in its `transformer_options`."""
        earlier, self._extra = self._extra, {**self._extra, **extra}
        try:
            yield
        finally:
            self._extra = earlier

    @property
    def attention_override(self) -> Callable | None:
        """What the MODEL itself replaces ComfyUI's attention with, if anything."""
        return self._options.get("transformer_options", {}).get("optimized_attention_override")

    @contextmanager
    def attached(self, adapter: Adapter) -> Iterator[None]:
        """Taps stay in place from step to step: gradient checkpointing runs the blocks again during backward. Adapters
        may be nested."""
        entry = _Installed(partial(self._installing, adapter))
        self._installed.append(entry)
        try:
            yield
        finally:
            self._installed.remove(entry)
            entry.leave()

    def _installing(self, adapter: Adapter) -> AbstractContextManager:
        """Kernels act where the video's tokens are in each call, which this knows; a LoRA installs itself."""
        if isinstance(adapter, BesideAttention):
            return tapped(self.transformer, self.spec, adapter.kernels, self._latest_grid)
        return adapter.attached_to(self.transformer)

    def _latest_grid(self) -> Grid:
        return self._grid

    def checkpointed(self, policy: str) -> AbstractContextManager:
        return checkpointed(self.transformer, self.spec, policy)

    @contextmanager
    def detached(self) -> Iterator[None]:
        """The bare model for a moment, between two steps: to sample with it as an artist would."""
        for entry in reversed(self._installed):
            entry.leave()
        try:
            yield
        finally:
            for entry in self._installed:
                entry.enter()


def time_at(sampling, spec: DiTSpec, left: float) -> float:
    """The time at which a sampler with `sampling` (a comfy ModelSampling) calls the model when `left` is to go."""
    return 1000 * left if spec.prediction == "v" else 1000 * float(sampling.percent_to_sigma(1 - left))


class _Installed:
    """An adapter in the model, which can be taken out and put in again."""

    def __init__(self, install: Callable[[], AbstractContextManager]):
        self._install = install
        self._live: AbstractContextManager | None = None
        self.enter()

    def enter(self) -> None:
        self._live = self._install()
        self._live.__enter__()

    def leave(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.__exit__(None, None, None)

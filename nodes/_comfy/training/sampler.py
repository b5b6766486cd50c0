"""Small samples while training: what has been learned so far, beside the source and what was there before."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import comfy.model_management as mm
import comfy.sample
import torch

from ....det_core.lora.lora import LoRA
from ..display.live import Row, some_frames
from ..sampling.adapter_wrapper import apply_adapter
from ..sampling.call import with_silence


class Sampler:
    """Samples the adapter as it stands, as an artist would: Apply Motion Adapter, KSampler (euler, simple), VAE."""

    def __init__(self, denoiser, vae, positive: list, negative: list | None, latents: torch.Tensor, seed: int):
        """latents: those of the source as the VAE gave them; samples have their shape."""
        self.denoiser, self.vae = denoiser, vae
        self.positive, self.negative = positive, negative
        self.latents, self.seed = latents, seed

    def before(self) -> list[Row]:
        """The source as the VAE gives it back, and a sample without any adapter."""
        with self._undisturbed():
            source = self._decoded(self.latents)
        return [("source", source), ("before", self.frames(None))]

    def frames(self, adapter) -> torch.Tensor:
        """Some frames (T, H, W, 3) of one sample; None samples the base model."""
        spec = self.denoiser.spec
        with self._undisturbed(), self._applied(adapter) as model:
            noise = torch.randn(self.latents.shape, generator=torch.Generator().manual_seed(self.seed))
            noise = with_silence(self.denoiser.model, noise)
            samples = comfy.sample.sample(
                model,
                noise,
                min(20, spec.defaults.sample_steps),
                1.0 if spec.embedded_guidance or not self.negative else spec.defaults.cfg,
                "euler",
                "simple",
                self.positive,
                self.negative or self.positive,
                noise * 0,
                disable_pbar=True,
                seed=self.seed,
            )
            return self._decoded(samples.unbind()[0] if samples.is_nested else samples)

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return some_frames(self.vae.decode(latents))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Afterwards the model is loaded for training as it was before."""
        training, mm.in_training = mm.in_training, False
        try:
            yield
        finally:
            mm.in_training = training
            self.denoiser.load()
            self.denoiser.patcher.pre_run()

    @contextmanager
    def _applied(self, adapter) -> Iterator:
        """The MODEL with the adapter as it stands, ready to sample. ComfyUI moves weights about, so it gets copies."""
        with self.denoiser.detached(), torch.inference_mode():
            if adapter is None:
                yield self.denoiser.patcher
                return
            now = copy.deepcopy(adapter).requires_grad_(False)
            yield apply_adapter(self.denoiser.patcher, now, now.keep, 1.0)


class LoRASampler(Sampler):
    """Samples a LoRA as it stands, alone on the base model at strength 1."""

    @contextmanager
    def _applied(self, adapter: LoRA | None) -> Iterator:
        denoiser = self.denoiser
        attached = adapter.attached_to(denoiser.transformer) if adapter is not None else nullcontext()
        with denoiser.detached(), attached, torch.inference_mode():
            yield denoiser.patcher  # the LoRA acts in the loaded model itself

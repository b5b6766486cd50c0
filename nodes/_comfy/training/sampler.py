"""A small sample while training, of what has been learned so far."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management as mm
import comfy.sample
import torch
from PIL import Image

from ....det_core.lora.lora import LoRA
from ....det_core.tracking.draw import contact_sheet
from ..gradients.weights import load_for_autograd
from ..sampling.adapter_wrapper import apply_adapter
from ..sampling.call import with_silence


class Sampler:
    """Samples the adapter as it stands, as an artist would: Apply Motion Adapter, KSampler (euler, simple), VAE."""

    def __init__(self, denoiser, vae, positive: list, negative: list | None, latents: torch.Tensor, seed: int):
        """latents: those of the source as the VAE gave them; samples have their shape."""
        self.denoiser, self.vae = denoiser, vae
        self.positive, self.negative = positive, negative
        self.shape, self.seed = latents.shape, seed

    def sheet(self, adapter, label: str) -> Image.Image:
        """A row of frames of one sample."""
        spec, patcher = self.denoiser.spec, self.denoiser.patcher
        training, mm.in_training = mm.in_training, False
        try:
            with self._applied(adapter) as model:
                noise = torch.randn(self.shape, generator=torch.Generator().manual_seed(self.seed))
                noise = with_silence(self.denoiser.model, noise)
                samples = comfy.sample.sample(
                    model,
                    noise,
                    min(20, spec.defaults.sample_steps),
                    spec.defaults.cfg if self.negative else 1.0,
                    "euler",
                    "simple",
                    self.positive,
                    self.negative or self.positive,
                    noise * 0,
                    disable_pbar=True,
                    seed=self.seed,
                )
                frames = self.vae.decode(samples.unbind()[0] if samples.is_nested else samples)
        finally:
            mm.in_training = training
            load_for_autograd([patcher])
            patcher.pre_run()
        return contact_sheet([(label, frames.reshape(-1, *frames.shape[-3:]).float().cpu())], 5)

    @contextmanager
    def _applied(self, adapter) -> Iterator:
        """The MODEL with the adapter as it stands, ready to sample. ComfyUI moves weights about, so it gets copies."""
        with self.denoiser.detached(), torch.inference_mode():
            now = copy.deepcopy(adapter).requires_grad_(False)
            yield apply_adapter(self.denoiser.patcher, now, now.keep, 1.0)


class LoRASampler(Sampler):
    """Samples a LoRA as it stands, alone on the base model at strength 1."""

    @contextmanager
    def _applied(self, adapter: LoRA) -> Iterator:
        denoiser = self.denoiser
        with denoiser.detached(), adapter.attached_to(denoiser.transformer), torch.inference_mode():
            yield denoiser.patcher  # the LoRA acts in the loaded model itself

"""A base model and the clip that is learned from, checked together before anything is loaded or computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import comfy.model_management as mm
import torch

from ....det_core.models.compute.memory import mlp_ratio_of, training_memory
from ....det_core.models.families import DiTSpec
from ....det_core.tracking.tracks import Tracks
from ....det_core.training.config import FitConfig
from ..loading.model_spec import model_spec
from ..sampling.adapter_wrapper import has_adapter
from ..sockets.checked import latent_tracks, noise_mask_of, video_channels, video_latents
from .conditions import beside_the_text, check_conditioning
from .fingerprint import fingerprint, model_fingerprint
from .memory_check import check_fits
from .trainable import trainable


@dataclass(frozen=True)
class Prepared:
    """model: MODEL. latents: (1, C, T, H, W) as the VAE gave them, mask: their noise mask. caption: CONDITIONING.

    empty, guidance: CONDITIONING of an empty prompt, and the guidance that is in the model's own answer; see the
    denoiser. tracks: of the same frames. memory: bytes that a step needs beside the weights, once they are estimated.
    """

    model: object
    spec: DiTSpec
    latents: torch.Tensor
    caption: list
    mask: torch.Tensor | None = None
    tracks: Tracks | None = None
    empty: list | None = None
    guidance: float = 1.0
    memory: int = 0

    @property
    def text(self) -> dict[str, torch.Tensor]:
        """The caption's text alone. The denoiser has the whole conditioning; this goes along so that resuming checks
        it."""
        return {"caption": self.caption[0][0].clone()}

    def source(self, *more) -> str:
        """A fingerprint of all that is learned from: model, latents, caption, tracks, and `more`."""
        points = (self.tracks.points, self.tracks.visible) if self.tracks else None
        guided = () if self.empty is None else (self.empty, self.guidance)
        known = (model_fingerprint(self.model), self.latents, self.mask, self.caption, points)
        return fingerprint(*known, *guided, *more)

    def guided(self, empty: list | None, guidance: float) -> Prepared:
        """This, for a base model whose answer has its guidance in it; without `empty`, for another one.

        Raises: ValueError if the conditioning does not fit the source.
        """
        if empty is None:
            return self
        check_conditioning(self.model.model, beside_the_text(empty), self.latents.shape[2], self.mask is not None)
        return replace(self, empty=empty, guidance=guidance)

    def for_steps(self, shape: torch.Size, config: FitConfig, **sizes) -> Prepared:
        """This, with the memory of steps on latents of `shape` estimated. sizes: further ones of `training_memory`.

        Raises: ValueError with advice if the device cannot hold it.
        """
        dit = self.model.model.diffusion_model
        needed = training_memory(
            self.spec,
            shape,
            policy=config.checkpoint,
            dtype=self.model.model.get_dtype_inference(),
            batch=config.batch,
            average=config.average,
            mlp_ratio=mlp_ratio_of(dit, self.spec),
            **sizes,
        ).total
        check_fits(needed, self.model, self.spec, checkpointing=config.checkpoint != "none")
        return replace(self, memory=needed)

    def for_reading(self) -> Prepared:
        """This, with the memory of one block estimated: nothing is kept for a backward. Raises ValueError as above."""
        needed = training_memory(
            replace(self.spec, taps=self.spec.taps[:1]),
            self.latents.shape,
            policy="full",
            dtype=self.model.model.get_dtype_inference(),
            mlp_ratio=mlp_ratio_of(self.model.model.diffusion_model, self.spec),
            parameters=0,
        ).total
        check_fits(needed, self.model, self.spec, True)
        return replace(self, memory=needed)

    def single_frames(self) -> list[torch.Tensor]:
        """The latent frames that stand for one frame of the video each."""
        count = self.latents.shape[2] if self.spec.frames.even else 1
        return [self.latents[:, :, i : i + 1] for i in range(count)]

    def memory_in_words(self) -> str:
        total = mm.get_total_memory(self.model.load_device)
        weights = self.model.model_size()
        return f"a step needs about {(self.memory + weights) / 2**30:.1f} GB with the weights, of {total / 2**30:.1f}"

    def trainable(self, latents: torch.Tensor | None = None, *, single_frames: bool = False) -> AbstractContextManager:
        """Inside, the model is loaded and autograd works: (denoiser, latents in the model's space); see `trainable`.

        latents: other ones of the same clip, at a reduced size. single_frames: they are looked at alone, too.
        """
        z = self.latents if latents is None else latents
        given = {"mask": self.mask, "single_frames": single_frames, "empty": self.empty, "guidance": self.guidance}
        return trainable(self.model, self.caption, z, self.spec, self.memory, **given)


def prepared(model, latents: dict, caption: list, tracks: dict | None = None) -> Prepared:
    """A MODEL, LATENT, CONDITIONING and TRACKS that fit each other. Raises ValueError naming what does not."""
    spec = model_spec(model)
    if has_adapter(model):
        raise ValueError("this MODEL has a motion adapter on it: connect the base model")
    z = video_latents(latents, video_channels(model), spec)
    points = None if tracks is None else latent_tracks(tracks, z, spec)
    return Prepared(model, spec, z, caption, noise_mask_of(latents), points)

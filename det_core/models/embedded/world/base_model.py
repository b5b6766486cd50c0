"""Embedded model 2 as a `BaseModel`; unlike the others it can be given a video's first frame."""

from __future__ import annotations

import copy

import torch

from ...compute.precision import Compute
from ...denoiser import Condition
from ..base_model import EmbeddedModel
from ..model import TinyModel
from .model import load_world


class EmbeddedWorld(EmbeddedModel):
    """See `BaseModel`. Videos are 9 frames of 64x64 pixels; one latent frame is one video frame."""

    name = "embedded-world"
    first: torch.Tensor | None = None  # what its videos start with, (1, 64, 64, 3), unless said otherwise

    def __init__(self, compute: Compute | None = None, tiny: TinyModel | None = None):
        """As `EmbeddedModel`."""
        super().__init__(compute, load_world() if tiny is None else tiny)

    def encode_prompts(self, prompts: list[str], first: torch.Tensor | None = None) -> Condition:
        """first: first frames (B or 1, 64, 64, 3) in [0, 1] that the videos shall start with."""
        cond = super().encode_prompts(prompts)
        first = self.first if first is None else first
        if first is not None:
            latents = self.tiny.codec.encode(first[:, None]).to(self.denoiser.device)
            cond["first_frame"] = latents.expand(len(prompts), -1, -1, -1, -1)
        return cond

    def starting_with(self, first: torch.Tensor) -> EmbeddedWorld:
        """The same model, whose videos start with the frame `first` (64, 64, 3) in [0, 1]."""
        given = copy.copy(self)
        given.first = first[None]
        return given

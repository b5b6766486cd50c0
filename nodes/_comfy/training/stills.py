"""Stills of a video: its frames, encoded one by one."""

from __future__ import annotations

import torch

from ....det_core.fym.sparse import Example, Examples
from ....det_core.models.families import DiTSpec


def encoded_stills(vae, frames: torch.Tensor, latents: torch.Tensor) -> list[torch.Tensor]:
    """Every frame of a video (T, H, W, 3) encoded alone, as the VAE gives it: (1, C, 1, H', W') each.

    Raises: ValueError if the frames are not of the size of `latents` (1, C, T', H', W').
    """
    stills = [vae.encode(frame[None]) for frame in frames]
    if stills[0].shape[-2:] != latents.shape[-2:] or stills[0].shape[1] != latents.shape[1]:
        height, width = frames.shape[1:3]
        raise ValueError(
            f"frames of {width}x{height} pixels become latents of {tuple(stills[0].shape[-2:])}, but the latents are "
            f"{tuple(latents.shape[-2:])}: connect the very frames that you encode, and the same VAE"
        )
    return stills


def still_examples(stills: list[torch.Tensor], spec: DiTSpec) -> Examples:
    """Latents of single frames as videos of one time step: where tokens span two latent frames, each frame twice."""
    return Examples([Example(still.expand(-1, -1, spec.patch[0], -1, -1)) for still in stills])

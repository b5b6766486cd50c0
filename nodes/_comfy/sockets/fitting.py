"""Sizes and lengths of video that a model takes, frames brought to them, and empty latents of them."""

from __future__ import annotations

import comfy.model_management as mm
import comfy.utils
import torch

from ....det_core.models.families import DiTSpec
from .checked import video_channels

FITS = ("crop", "pad", "stretch")


def legal_size(spec: DiTSpec, width: int, height: int) -> tuple[int, int]:
    """The nearest (width, height) in pixels that divides into the model's tokens."""
    rows, columns = (spec.spatial_compression * patch for patch in spec.patch[1:])
    return max(1, round(width / columns)) * columns, max(1, round(height / rows)) * rows


def legal_length(spec: DiTSpec, frames: int) -> int:
    """The longest legal length of at most `frames`. Raises ValueError if the model takes none so short."""
    length, _ = spec.frames.nearest(frames)
    while length and spec.frames.latent_frames(length) % spec.patch[0]:
        length, _ = spec.frames.nearest(length - 1)
    if not length or spec.frames.latent_frames(length) < 2:
        raise ValueError(f"{frames} frames are too few: {spec.name} takes {spec.frames.rule} frames, two latent ones")
    return length


def fitted_frames(frames: torch.Tensor, size: tuple[int, int], fit: str) -> torch.Tensor:
    """Frames (T, H, W, 3) at `size` (width, height); fit: one of `FITS`."""
    width, height = size
    if frames.shape[1:3] == (height, width):
        return frames
    pictures = frames.movedim(-1, 1)
    if fit != "pad":
        crop = "center" if fit == "crop" else "disabled"
        return comfy.utils.common_upscale(pictures, width, height, "lanczos", crop).movedim(1, -1)
    factor = min(width / frames.shape[2], height / frames.shape[1])
    inner = (min(width, round(frames.shape[2] * factor)), min(height, round(frames.shape[1] * factor)))
    small = comfy.utils.common_upscale(pictures, *inner, "lanczos", "disabled")
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    border = (left, width - inner[0] - left, top, height - inner[1] - top)
    return torch.nn.functional.pad(small, border).movedim(1, -1)


def empty_latent(model, spec: DiTSpec, size: tuple[int, int], frames: int) -> dict:
    """LATENT without anything in it, for a video of `size` (width, height) and so many frames."""
    columns, rows = (side // spec.spatial_compression for side in size)
    shape = (1, video_channels(model), spec.frames.latent_frames(frames), rows, columns)
    return {"samples": empty_samples(shape)}


def empty_samples(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, device=mm.intermediate_device())

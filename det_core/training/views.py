"""What a training step looks at: the whole clip, a window of its frames, or the clip at a reduced size."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..models.denoiser import Denoiser
from ..models.families import DiTSpec
from ..tracking.tracks import Tracks


@dataclass(frozen=True)
class View:
    """Latents (1, C, T, H, W), the tracks at those frames, and the positions in the whole clip of latent frames, rows
    and columns of cells; None for 0, 1, 2, ..."""

    latents: torch.Tensor
    tracks: Tracks | None
    times: tuple[float, ...] | None = None
    rows: tuple[float, ...] | None = None
    columns: tuple[float, ...] | None = None

    def placed(self, denoiser: Denoiser) -> AbstractContextManager:
        """Inside, `denoiser` sees this view's tokens at their positions in the whole clip."""
        if self.times is None and self.rows is None and self.columns is None:
            return nullcontext()
        return denoiser.at_positions(self.times, self.rows, self.columns)


def training_views(
    spec: DiTSpec,
    latents: torch.Tensor,
    tracks: Tracks | None,
    *,
    scale: float = 1.0,
    full_size: tuple[int, int] | None = None,
    frame_window: int | None = None,
) -> list[View]:
    """All views of a clip that a training draws from.

    Args:
        latents:      (1, C, T, H, W) of the clip; at `scale` below 1, of the clip at that scale (`scaled_frames`).
        tracks:       of the whole clip, at its pixel frames; normalised, so the same at every scale.
        scale:        cells of the latents over those of the full size. Cell i then stands where its centre lies in the
                      full-size clip: (i + 1/2) / scale - 1/2.
        full_size:    rows and columns of cells of the full size, which rounding to whole tokens keeps from being the
                      latents' over `scale`; None takes that.
        frame_window: consecutive latent frames to a view, from every possible start; None means all frames.
    Raises: ValueError if the window does not fit the clip or is no whole number of tokens.
    """
    time, height, width = latents.shape[-3:]
    rows = columns = None
    if scale != 1.0:
        full = (height / scale, width / scale) if full_size is None else full_size
        rows, columns = map(_spread, (height, width), full)
    tracks = tracks and _at_latent_frames(tracks, spec, time)
    if frame_window is None or frame_window == time:
        return [View(latents, tracks, None, rows, columns)]
    step = spec.patch[0]
    if not 2 <= frame_window <= time or frame_window % step:
        raise ValueError(
            f"a window of {frame_window} latent frames does not fit a clip of {time}: choose 2 to {time}"
            + (f", a multiple of {step}" if step > 1 else "")
        )
    views = []
    for start in range(0, time - frame_window + 1, step):
        inside = slice(start, start + frame_window)
        window = tracks and tracks.at(range(start, start + frame_window))
        times = tuple(float(i) for i in range(start, start + frame_window))
        views.append(View(latents[:, :, inside], window, times, rows, columns))
    return views


def _spread(size: int, full: float) -> tuple[float, ...]:
    """Where the centres of `size` cells lie among `full` ones of the same length in all."""
    return tuple((i + 0.5) * full / size - 0.5 for i in range(size))


def _at_latent_frames(tracks: Tracks, spec: DiTSpec, latent_frames: int) -> Tracks:
    """The tracks at the pixel frame that stands for each latent frame; tracks over another number of frames than the
    codec takes are spread evenly."""
    if tracks.frames == spec.frames.frames(latent_frames):
        return tracks.at(spec.frames.read_at(latent_frames))
    return tracks.resample(latent_frames)


def scaled_frames(frames: torch.Tensor, spec: DiTSpec, scale: float) -> torch.Tensor:
    """Frames (T, H, W, 3) float in [0, 1] at `scale` of their size, rounded to the nearest size the model takes."""
    if scale == 1.0:
        return frames
    cell = spec.spatial_compression * spec.patch[1]
    size = [max(cell, round(side * scale / cell) * cell) for side in frames.shape[1:3]]
    small = F.interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True, align_corners=False)
    return small.permute(0, 2, 3, 1).contiguous()

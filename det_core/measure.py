"""Measure one generated video against its source and its prompt. Two rulers: one for the embedded model's clips, which
can be read exactly, one for real videos (a tracker, CLIP and DINO)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from .metrics import motion_fidelity
from .tracking.tracks import Tracks

if TYPE_CHECKING:
    from .models.base_model import BaseModel
    from .source import Source


@dataclass(frozen=True)
class Measurement:
    """All in [0, 1] but CLIP's edit fidelity (cosine x 100); None is "not measured", `reasons` may say why."""

    motion_fidelity: float | None = None
    edit_fidelity: float | None = None
    temporal_consistency: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    def scores(self) -> dict[str, float | None]:
        """The values alone."""
        return {name: getattr(self, name) for name in METRICS}


METRICS = ("motion_fidelity", "edit_fidelity", "temporal_consistency")


class Ruler(Protocol):
    description: str

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        """Measure `frames` (T, H, W, 3) in [0, 1]."""


def object_path(tracks: Tracks) -> Tracks:
    """One track for a whole object: the mean of its points' steps, summed up from their first mean position.

    Steps are averaged over points visible at both ends, so that a point that disappears does not pull the path."""
    both = tracks.visible[:, 1:] & tracks.visible[:, :-1]
    steps = (tracks.points[:, 1:] - tracks.points[:, :-1]) * both[..., None]
    mean_step = steps.sum(0) / both.sum(0).clamp(min=1)[:, None]
    start = tracks.points[:, 0].mean(0, keepdim=True)
    path = torch.cat([start, start + mean_step.cumsum(0)])
    return Tracks(path[None], torch.cat([both.any(0)[:1], both.any(0)])[None], tracks.tracker)


def fidelity_or_reason(source: Tracks, generated: Tracks) -> tuple[float | None, dict[str, str]]:
    """Motion fidelity, or None and why there is none, as where nothing is seen long enough in both."""
    try:
        return float(motion_fidelity(source, generated)), {}
    except ValueError as error:
        return None, {"motion_fidelity": str(error)}


class SpriteRuler:
    """For the embedded model: the sprite's path, colour, shape and background are read from the pixels."""

    description = (
        "sprite reader (path of the sprite's centre; shares of frames with the prompted colour, shape, background)"
    )

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        from .models.embedded.base_model import consistency, read_clip, scene_of, sprite_path

        reading = read_clip(frames)
        scene = scene_of(prompt)
        source_reading = read_clip(source.pixels)
        wanted = sprite_path(source_reading) if source_reading.is_corpus_clip else object_path(source.tracks)
        fidelity, reasons = fidelity_or_reason(wanted, sprite_path(reading)) if reading.seen.any() else (0.0, {})
        edit = scene and reading.agreement(scene)["edit_fidelity"]
        return Measurement(fidelity, edit, consistency(reading), reasons)


class VideoRuler:
    """For real videos: the source's own tracker on the generated video from the same query points, CLIP and DINO."""

    def __init__(self, device: str, clip: Path | None = None, dino: Path | None = None):
        self.device, self.clip, self.dino = device, clip, dino
        self.description = f"tracks of the same points; CLIP {clip or 'not given'}; DINO {dino or 'not given'}"

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        from .metrics import edit_fidelity, temporal_consistency
        from .tracking.trackers import track

        tracker = source.tracks.tracker if source.tracks.tracker in ("cotracker", "dis", "lk") else "auto"
        moved = track(frames, source.tracks.points[:, 0], tracker=tracker, device=self.device)
        fidelity, reasons = fidelity_or_reason(source.tracks, moved)
        return Measurement(
            fidelity,
            edit_fidelity(frames, prompt, clip=self.clip) if self.clip else None,
            temporal_consistency(frames, dino=self.dino) if self.dino else None,
            reasons,
        )


def ruler_for(model: BaseModel, clip: Path | None = None, dino: Path | None = None) -> Ruler:
    """The ruler that fits a base model."""
    return SpriteRuler() if model.name == "embedded" else VideoRuler(str(model.denoiser.device), clip, dino)

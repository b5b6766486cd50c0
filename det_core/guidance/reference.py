"""The motion of a source video as a file: no training made it, so it is the source's clean latents and where to look.

One .safetensors of a few MB: tensors `latents` (1, C, T, H, W) float16 in the model's space and, if the subject is
known, `subject` (T, H, W) uint8; metadata text to text, of which `format_version`, `method` and `base_model` are always
there. `source` says where it comes from (name, fps, ...), `modelspec.thumbnail` is a picture of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..files import copied, open_tensors, write_tensors
from ..media.card import card
from ..models.families import DiTSpec
from ..tracking.tracks import Tracks

FORMAT_VERSION = 1
METHOD = "motion-reference"


@dataclass(frozen=True)
class MotionReference:
    """A source video that a guidance moves others after.

    latents:    (1, C, T, H, W) clean latents in the model's space; kept as float16, as in the file.
    base_model: `DiTSpec.name` of the model whose latents they are.
    subject:    (T, H, W) bool, the latent cells that the moving subject passes; None guides everywhere.
    """

    latents: torch.Tensor
    base_model: str
    subject: torch.Tensor | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.latents.ndim != 5 or len(self.latents) != 1 or self.latents.shape[2] < 2:
            raise ValueError(f"a motion is the latents of one video (1, C, T, H, W), got {tuple(self.latents.shape)}")
        if self.subject is not None and self.subject.shape != self.latents.shape[2:]:
            raise ValueError(
                f"the subject's mask is {tuple(self.subject.shape)}, the latents are {tuple(self.latents.shape[2:])}"
            )
        object.__setattr__(self, "latents", self.latents.detach().to("cpu", torch.float16))

    def check(self, spec: DiTSpec) -> None:
        """Raises ValueError, naming both, if the latents are of another base model."""
        if self.base_model != spec.name:
            raise ValueError(
                f"this motion reference was made for {self.base_model}, but the model is {spec.describe()}: make one "
                "with this model's VAE"
            )

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the file holds."""
        subject = {} if self.subject is None else {"subject": self.subject.to(torch.uint8)}
        return {"latents": self.latents, **subject}

    def save(self, path: str | Path) -> None:
        """Write the file atomically; raises OSError with the path if it cannot be written."""
        stamp = {"format_version": str(FORMAT_VERSION), "method": METHOD, "base_model": self.base_model}
        write_tensors(path, self.tensors(), {**self.metadata, **stamp})

    @classmethod
    def load(cls, path: str | Path) -> MotionReference:
        """Read a file. Raises ValueError with the path if it is missing, damaged, or something else."""
        with open_tensors(path) as file:
            metadata = dict(file.metadata() or {})
            _check_metadata(path, metadata)
            tensors = copied(file)
        if "latents" not in tensors or not torch.isfinite(tensors["latents"]).all():
            raise ValueError(f"{path} is damaged: it has no finite latents")
        subject = tensors["subject"].bool() if "subject" in tensors else None
        try:
            return cls(tensors["latents"], metadata["base_model"], subject, metadata)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None


def _check_metadata(path: str | Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get("format_version", "")
    if metadata.get("method") != METHOD or not version.isdecimal() or not metadata.get("base_model"):
        raise ValueError(f"{path} is not a motion reference (an adapter or a LoRA? those have their own loaders)")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"{path} was written by a newer version of this pack (file format {version}): update the pack")


def describe_source(name: str, fps: float, frames: torch.Tensor, **more) -> dict[str, str]:
    """Metadata of a source: name, rate, length, size and a picture. `frames` (T, H, W, 3) float in [0, 1]."""
    about = {"name": name, "fps": fps, "frames": len(frames), "size": list(frames.shape[1:3]), **more}
    return {"source": json.dumps(about), **card(frames)}


def subject_cells(tracks: Tracks, latent_shape: torch.Size, margin: int = 1) -> torch.Tensor:
    """(T, H, W) bool: the latent cells that visible tracks pass in any frame, and `margin` cells around them.

    The same in every frame: where the subject was is to be compared as well as where it is.
    """
    time, height, width = latent_shape[-3:]
    points, visible = tracks.to_grid(time, height, width)
    cells = torch.zeros(height, width, dtype=torch.bool)
    column, row = points[visible].long().unbind(-1)
    cells[row.clamp(0, height - 1), column.clamp(0, width - 1)] = True
    size = 2 * margin + 1
    grown = torch.nn.functional.max_pool2d(cells[None, None].float(), size, 1, margin)[0, 0] > 0
    return grown.expand(time, -1, -1).contiguous()

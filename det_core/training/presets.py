"""Named ways to train: what the paper does, what costs less, what needs little memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..models.families import DiTSpec
from .config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """summary: one line for a user. changes: of the training configuration. low_vram: one block's weights on the device
    at a time (`offload.offload_blocks`)."""

    summary: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    low_vram: bool = False


PRESETS = {
    "paper": Preset("exactly as the paper trains"),
    "fast": Preset(
        "at three quarters of the size and towards noise: about half the time, proved on the embedded model only",
        changes={"scale": 0.75, "timestep_power": 0.6},
    ),
    "low_vram": Preset(
        "as the paper, with one block's weights on the GPU at a time: slower, smaller",
        changes={"checkpoint": "full"},
        low_vram=True,
    ),
}


def preset_config(name: str, spec: DiTSpec, **changes: Any) -> TrainConfig:
    """The training configuration of a preset for a base model, with some settings changed.

    Raises: ValueError that lists the presets if there is none of this name.
    """
    if name not in PRESETS:
        raise ValueError(f'there is no preset "{name}"; choose {", ".join(PRESETS)}')
    return TrainConfig.for_spec(spec, **{**PRESETS[name].changes, **changes})

"""Named ways to train: what the paper does, what costs less, what needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..models.families import DiTSpec
from .config import TrainConfig

AVERAGE = 0.95  # so the last twenty steps or so


def _nothing(spec: DiTSpec) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Preset:
    """summary: one line for a user. changes: to a base model's own training configuration. low_vram: one block's
    weights on the device at a time (`offload.offload_blocks`)."""

    summary: str
    changes: Callable[[DiTSpec], Mapping[str, Any]] = _nothing
    low_vram: bool = False


def _quarter(spec: DiTSpec) -> Mapping[str, Any]:
    """A quarter of the draws, in smaller batches rather than in fewer steps where there are batches; towards noise, at
    twice the rate to the end, and no block dropped: what is learned in so few steps is needed whole. The average of the
    last weights evens out what a high rate and small batches leave in each."""
    own = spec.defaults
    batch = max(1, own.batch // 2)
    steps = max(1, round(own.steps * own.batch / batch / 4))
    warmup = max(round(own.warmup * steps / own.steps), round(steps / 20))
    return {
        "batch": batch, "steps": steps, "warmup": warmup, "lr": 2 * own.lr,
        "timestep_power": 0.6, "drop_fraction": 0.0, "decay": False, "average": AVERAGE,
    }  # fmt: skip


PRESETS = {
    "paper": Preset("as the paper trains, on the bases that it tried; on others as their family says"),
    "fast": Preset(
        "a quarter of the training, towards noise, at twice the rate, the weights averaged, no block dropped: proved "
        "on the embedded models only",
        changes=_quarter,
    ),
    "low_vram": Preset(
        "as the paper, with one block's weights on the GPU at a time: slower, smaller",
        changes=lambda spec: {"checkpoint": "full"},
        low_vram=True,
    ),
}


def preset_config(name: str, spec: DiTSpec, **changes: Any) -> TrainConfig:
    """The training configuration of a preset for a base model, with some settings changed.

    Raises: ValueError that lists the presets if there is none of this name.
    """
    if name not in PRESETS:
        raise ValueError(f'there is no preset "{name}"; choose {", ".join(PRESETS)}')
    return TrainConfig.for_spec(spec, **{**PRESETS[name].changes(spec), **changes})

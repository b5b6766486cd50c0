"""How a motion adapter is trained, from a node's widgets, and what its file says of that."""

from __future__ import annotations

import json

from ....det_core.models.families import DiTSpec
from ....det_core.models.identity import KEY as IDENTITY
from ....det_core.models.noise import SPANS
from ....det_core.training.config import TrainConfig, how_trained
from ....det_core.training.presets import PRESETS, preset_config
from ....det_core.training.state import TrainState
from ..loading.base import identity_of, model_file
from .prepared import Prepared

PRESET_NAMES = ("auto", "paper", "fast", "low VRAM", "custom")


def chosen_config(preset: str, spec: DiTSpec, numbers: dict[str, float], **rest) -> TrainConfig:
    """The settings of a preset for a base model. numbers: those of the node, where 0 is the model's own; the paper's
    are as they are, at whatever noise.

    Raises: ValueError if a number is no setting, or is missing where the preset takes all of them as they stand.
    """
    size = numbers["kernel_size"]
    if size and size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {size}: use {size + 1}")
    if preset == "paper":
        return preset_config("paper", spec, **{name: rest[name] for name in ("seed", "noise", "noise_span")})
    own = TrainConfig.for_spec(spec)
    missing = [f"{name} (the model's own: {getattr(own, name):g})" for name, value in numbers.items() if not value]
    if preset == "custom" and missing:
        raise ValueError(f"the preset custom takes the numbers as they stand, and some are 0: set {', '.join(missing)}")
    known = preset.lower().replace(" ", "_")
    changes = {name: value for name, value in numbers.items() if value} | rest
    return preset_config(known if known in PRESETS else "paper", spec, **changes)


def in_words(config: TrainConfig) -> str:
    """A training in one line."""
    low, high = config.noise_span
    whole = config.noise == "uniform" and (low, high) == SPANS["all"]
    noise = "" if whole else f", noise {low:g} to {high:g}, {config.noise}"
    return (
        f"{config.steps} steps, learning rate {config.lr:g}, tracking {config.tracking_weight:g}, kernels "
        f"{config.mid_dim} wide over {config.kernel_size} latent frames, seed {config.seed}{noise}"
    )


def metadata(config: TrainConfig, state: TrainState, job: Prepared, part: str, fps: float) -> dict[str, str]:
    """What an adapter's file says of its training. part: of the noise, a name of `SPANS`; fps: of the source, 0 if it
    is not known."""
    return {
        **how_trained(config, state.losses),
        "source": json.dumps({"fingerprint": state.learns_from, **_source(job, fps)}),
        "vae": type(job.model.model.latent_format).__name__,
        **({} if part == "all" else {"expert": part}),
        **({} if (file := model_file(job.model)) == "" else {"base_file": file}),
        IDENTITY: identity_of(job.model).text,
    }


def _source(job: Prepared, fps: float) -> dict:
    """The clip as it was learned: frames, rows and columns of pixels, and the rate where it is known."""
    size = [side * job.spec.spatial_compression for side in job.latents.shape[-2:]]
    return {"frames": job.spec.frames.frames(job.latents.shape[2]), "size": size, **({"fps": fps} if fps else {})}

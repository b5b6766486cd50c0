"""Learn the motion of one source video, and keep it in a file that says what it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from .adapter.motion_adapter import MotionAdapter
from .models.base_model import BaseModel
from .models.families import DiTSpec
from .models.generate import latent_shape
from .models.identity import KEY as IDENTITY
from .models.noise import learning
from .source import Source
from .training.config import TrainConfig, how_trained
from .training.loop import fingerprint, train_motion_adapter
from .training.run import TrainResult
from .training.saved import Saving, earlier_state
from .training.state import state_path
from .training.views import scaled_frames


def adapter_metadata(
    source: Source, caption: str, losses: dict[str, list[float]], config: TrainConfig
) -> dict[str, str]:
    """What an adapter file says about itself, beyond its shapes."""
    return {"source": source.describe(), "caption": caption, **how_trained(config, losses)}


def train_on(
    model: BaseModel,
    source: Source,
    caption: str,
    config: TrainConfig,
    path: Path,
    *,
    resume: bool = False,
    save_every: int = 100,
    on_step=None,
) -> TrainResult:
    """Train an adapter and write it to `path`, with its resumable state beside it (`state_path`).

    Both are written every `save_every` steps and, whatever stops the training (Ctrl-C, a NaN, an error of `on_step`),
    once more at the last completed step; see `Saving`.
    Raises: ValueError if it shall resume what learned from something else, or with other settings.
    """
    latents = model.encode_video(scaled_frames(source.pixels, model.denoiser.spec, config.scale))
    cond = model.encode_prompts([caption])
    learns_from = fingerprint(latents, cond, source.tracks)
    state_file = state_path(path, learns_from)
    earlier = earlier_state(state_file, config, learns_from) if resume else None
    told = source.card(caption) | {"base_file": model.name} | model.denoiser.weights_told
    write = partial(_write_adapter, path, source, caption, told, model.denoiser.spec)
    with Saving(state_file, save_every, on_step=on_step, beside=write, go_on="continue with --resume") as saving:
        result = train_motion_adapter(
            model.denoiser,
            latents,
            cond,
            source.tracks,
            config,
            full_size=latent_shape(model, *source.pixels.shape[:3])[-2:],
            on_step=saving,
            resume=earlier,
        )
    write(result.adapter, result.losses, config)
    return result


def _write_adapter(
    path: Path,
    source: Source,
    caption: str,
    told: Mapping[str, str],
    spec: DiTSpec,
    adapter: MotionAdapter,
    losses: dict[str, list[float]],
    config: TrainConfig,
) -> None:
    learned = learning(config.noise_span, spec.boundary)
    expert = {"expert": learned[0]} if learned and not spec.experts else {}
    adapter.metadata.update(adapter_metadata(source, caption, losses, config) | told | expert)
    adapter.save(path)
    if spec.experts:  # for programs that load one of them at a time
        for name, part in adapter.of_experts(spec.experts).items():
            part.metadata[IDENTITY] = told[f"{IDENTITY}.{name}"]
            if name in learned:
                part.save(path.with_name(f"{path.stem}.{name}.safetensors"))

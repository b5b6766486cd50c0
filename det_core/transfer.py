"""The whole job: learn the motion of one video and replay it with new prompts, with and without it, measured."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from . import __version__
from .adapter.motion_adapter import MotionAdapter
from .files import atomic_write
from .measure import Measurement, Ruler
from .models.base_model import BaseModel
from .models.families import DiTSpec
from .models.sample import sample
from .source import Source
from .training.config import TrainConfig
from .training.loop import fingerprint, train_motion_adapter
from .training.run import TrainResult
from .training.saved import Saving, earlier_state
from .training.state import state_path
from .training.views import scaled_frames

log = logging.getLogger(__name__)


def adapter_metadata(
    source: Source, caption: str, losses: dict[str, list[float]], config: TrainConfig
) -> dict[str, str]:
    """What an adapter file says about itself, beyond its shapes."""
    last = {name: values[-1] for name, values in losses.items() if values}
    return {
        "source": source.describe(),
        "caption": caption,
        "config": json.dumps(asdict(config)),
        "steps": str(len(losses["total"])),
        "losses": json.dumps({k: v for k, v in last.items() if v == v}),
        "seed": str(config.seed),
        "pack_version": __version__,
    }


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
    write_adapter = partial(_write_adapter, path, source, caption, model.denoiser.spec)
    go_on = "continue with --resume"
    with Saving(state_file, save_every, on_step=on_step, beside=write_adapter, go_on=go_on) as saving:
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
    write_adapter(result.adapter, result.losses, config)
    return result


def _write_adapter(
    path: Path,
    source: Source,
    caption: str,
    spec: DiTSpec,
    adapter: MotionAdapter,
    losses: dict[str, list[float]],
    config: TrainConfig,
) -> None:
    adapter.metadata.update(adapter_metadata(source, caption, losses, config))
    adapter.save(path)
    if spec.experts:  # for programs that load one of them at a time
        for name, part in adapter.of_experts(spec.experts).items():
            part.save(path.with_name(f"{path.stem}.{name}.safetensors"))


def latent_shape(model: BaseModel, frames: int, height: int, width: int) -> torch.Size:
    """(1, C, T, H, W) of the latents of a video of this size."""
    spec = model.denoiser.spec
    cells = (
        spec.frames.latent_frames(frames),
        height // spec.spatial_compression,
        width // spec.spatial_compression,
    )
    return torch.Size((1, model.denoiser.transformer.config.in_channels, *cells))


def initial_noise(shape: torch.Size, seed: int) -> torch.Tensor:
    """Noise of one video; the same seed starts the video with and without the adapter."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Generated:
    """One prompt with one seed: the videos (T, H, W, 3) without and with the adapter, and what they measure."""

    prompt: str
    seed: int
    base: torch.Tensor
    det: torch.Tensor
    scores: dict[str, Measurement] = field(default_factory=dict)


def generate(
    model: BaseModel,
    adapter: MotionAdapter | None,
    prompts: list[str],
    seeds: list[int],
    shape: torch.Size,
    *,
    keep: list[int] | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    cfg: float | None = None,
    batch: int = 1,
    on_step=None,
) -> list[torch.Tensor]:
    """Videos of every prompt with every seed (prompt-major), each (T, H, W, 3) on the CPU, from latents of `shape`."""
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    videos = []
    for start in range(0, len(jobs), batch):
        group = jobs[start : start + batch]
        noise = torch.cat([initial_noise(shape, seed) for _, seed in group])
        latents = sample(
            model.denoiser,
            model.encode_prompts([prompt for prompt, _ in group]),
            model.encode_prompts([""] * len(group)),
            noise,
            steps=steps,
            cfg=cfg,
            adapter=adapter,
            keep=keep,
            strength=strength,
            on_step=on_step,
        )
        videos += [model.decode_video(one[None]) for one in latents]
    return videos


@dataclass(frozen=True)
class TransferJob:
    """What `transfer` is asked to do, once the source is loaded and checked."""

    source: Source
    caption: str
    prompts: list[str]
    seeds: list[int]
    out: Path
    config: TrainConfig
    keep: list[int] | None = None
    strength: float = 1.0
    sample_steps: int | None = None
    cfg: float | None = None
    resume: bool = False


def transfer(
    model: BaseModel, job: TransferJob, ruler: Ruler, *, track_seconds: float, on_train=None, on_sample=None
) -> dict:
    """Train, sample with and without the adapter, measure and write everything into `job.out`; returns metrics.json."""
    from .media.video import write_video
    from .tracking.draw import contact_sheet, draw_tracks, loss_curve

    seconds = {"track": track_seconds}
    model.encode_prompts([job.caption, *job.prompts, ""])  # at once, so that the text encoder is not needed again
    source, out = job.source, job.out
    write_video(out / "tracks.mp4", draw_tracks(source.frames, source.tracks), source.fps)

    started = time.monotonic()
    result = train_on(
        model, source, job.caption, job.config, out / "adapter.safetensors", resume=job.resume, on_step=on_train
    )
    seconds["train"] = time.monotonic() - started
    with atomic_write(out / "loss.png") as temporary:
        loss_curve(result.losses, 960, 480).save(temporary)

    started = time.monotonic()
    shape = latent_shape(model, *source.pixels.shape[:3])
    batch = 4 if model.name == "embedded" else 1
    settings = {"steps": job.sample_steps, "cfg": job.cfg, "batch": batch, "on_step": on_sample}
    without = generate(model, None, job.prompts, job.seeds, shape, **settings)
    replayed = generate(
        model, result.adapter, job.prompts, job.seeds, shape, keep=job.keep, strength=job.strength, **settings
    )
    pairs = [(prompt, seed) for prompt in job.prompts for seed in job.seeds]
    videos = [Generated(*pair, base, det) for pair, base, det in zip(pairs, without, replayed, strict=True)]
    seconds["sample"] = time.monotonic() - started

    for video in videos:
        video.scores = {
            "base": ruler.measure(video.base, video.prompt, source),
            "det": ruler.measure(video.det, video.prompt, source),
        }
        write_video(out / f"{slug(video.prompt)}-seed{video.seed}.mp4", video.det, source.fps)
    rows = [("source video", source.pixels)]
    for video in videos:
        rows += [
            (f"{video.prompt}  (seed {video.seed}), without adapter", video.base),
            ("with the motion adapter", video.det),
        ]
    with atomic_write(out / "contact_sheet.png") as temporary:
        contact_sheet(rows, min(9, len(source.frames))).save(temporary)

    seconds["total"] = sum(seconds.values())
    metrics = summary(videos, seconds, ruler, model, job)
    with atomic_write(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def summary(
    videos: list[Generated], seconds: dict[str, float], ruler: Ruler, model: BaseModel, job: TransferJob
) -> dict:
    """The content of metrics.json. A metric that could not be measured is null."""

    def mean(row: str) -> dict[str, float | None]:
        values = [asdict(video.scores[row]) for video in videos]
        means = {}
        for name in values[0]:
            known = [v[name] for v in values if v[name] is not None]
            means[name] = sum(known) / len(known) if known else None
        return means

    return {
        "prompts": [
            {"prompt": v.prompt, "seed": v.seed, **{row: asdict(v.scores[row]) for row in ("base", "det")}}
            for v in videos
        ],
        "mean": {"base": mean("base"), "det": mean("det")},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "tracker": job.source.tracks.tracker,
        "measured_with": ruler.description,
        "model": model.name,
        "config": {
            **asdict(job.config),
            "keep": job.keep,
            "strength": job.strength,
            "sample_steps": job.sample_steps or model.denoiser.spec.defaults.sample_steps,
            "cfg": job.cfg or model.denoiser.spec.defaults.cfg,
        },
    }


def slug(prompt: str) -> str:
    """A file name for a prompt: its letters and digits, at most 60 of them, and a hash where anything was lost."""
    plain = "-".join("".join(c if c.isalnum() else " " for c in prompt.lower()).split())
    return plain if len(plain) <= 60 else f"{plain[:50]}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"

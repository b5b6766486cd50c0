"""The whole job: learn the motion of one video and replay it with new prompts, with and without it, measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from .files import atomic_write, slug, write_json
from .guidance.guide import Plan
from .guidance.reference import MotionReference, describe_source
from .guidance.sampling import MotionGuidance
from .learn import train_on
from .measure import METRICS, Measurement, Ruler
from .media.video import write_video
from .models.base_model import BaseModel
from .models.generate import Sampling, generate, latent_shape
from .source import Source
from .tracking.curve import loss_curve
from .tracking.draw import contact_sheet, draw_tracks
from .training.config import TrainConfig
from .training.loop import OnStep

log = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
REFERENCE = "reference.safetensors"
GUIDE = ("only", "beside")  # guide by the source instead of training, or do both


@dataclass(frozen=True)
class Row:
    """One way to make the videos: its name in metrics.json, its label on pictures, the folder of its videos, if they
    are not the job's own."""

    name: str
    label: str
    folder: str


BASE = Row("base", "without adapter", "without-adapter")
GUIDED = Row("guided", "guided, nothing trained", "guided")
DET = Row("det", "with the motion adapter", "with-adapter")


@dataclass(frozen=True)
class TransferJob:
    """What `transfer` is asked to do, once the source is loaded and all is checked."""

    source: Source
    caption: str
    prompts: list[str]
    seeds: list[int]
    out: Path
    config: TrainConfig
    sampling: Sampling
    resume: bool = False
    guide: str | None = None  # one of GUIDE

    @property
    def rows(self) -> list[Row]:
        """The rows of videos that are made; the last one is what the job is for."""
        return [BASE, *([GUIDED] if self.guide else []), *([] if self.guide == "only" else [DET])]

    def folder(self, row: Row) -> Path:
        """Where the videos of a row go."""
        return self.out if row == self.rows[-1] else self.out / row.folder

    @property
    def videos(self) -> list[tuple[str, int]]:
        """Every prompt with every seed."""
        return [(prompt, seed) for prompt in self.prompts for seed in self.seeds]


@dataclass
class Made:
    """One video (T, H, W, 3) of a prompt and seed, and what it measures, once it is measured."""

    prompt: str
    seed: int
    frames: torch.Tensor
    measured: Measurement = field(default_factory=Measurement)


def transfer(
    model: BaseModel,
    job: TransferJob,
    ruler: Ruler,
    *,
    track_seconds: float,
    on_train: OnStep | None = None,
    on_sample: Callable[[int, int], None] | None = None,
) -> dict:
    """Train, or guide, sample with and without, measure and write everything into `job.out`; returns metrics.json.

    What is made is on the disk before the next thing begins: the tracks, the adapter, each video. on_train and
    on_sample are called after each step (`train_motion_adapter`, `generate`) and may raise to stop.
    """
    source, out, seconds = job.source, job.out, {"track": track_seconds}
    model.encode_prompts([job.caption, *job.prompts, ""])  # at once, so that the text encoder is not needed again
    write_video(out / "tracks.mp4", draw_tracks(source.frames, source.tracks), source.fps)

    adapter, guidance = None, None
    with timed(seconds, "train"):
        if DET in job.rows:
            result = train_on(
                model, source, job.caption, job.config, out / ADAPTER, resume=job.resume, on_step=on_train
            )
            adapter = result.adapter
            with atomic_write(out / "loss.png") as temporary:
                loss_curve(result.losses, 960, 480).save(temporary)
        if GUIDED in job.rows:
            guidance = guided_by(model, source, out / REFERENCE)

    with timed(seconds, "sample"):
        shape = latent_shape(model, *source.pixels.shape[:3])
        made: dict[Row, list[Made]] = {row: [] for row in job.rows}
        for row in reversed(job.rows):
            how = {DET: (adapter, None), GUIDED: (None, guidance), BASE: (None, None)}[row]
            videos = generate(model, how[0], job.videos, shape, job.sampling, guidance=how[1], on_step=on_sample)
            for (prompt, seed), video in zip(job.videos, videos, strict=True):
                write_video(job.folder(row) / video_name(prompt, seed), video, source.fps)
                made[row].append(Made(prompt, seed, video))

    for one in (one for row in made.values() for one in row):
        one.measured = measured(ruler, one, source)
    with atomic_write(out / "contact_sheet.png") as temporary:
        contact_sheet(sheet_rows(source, made), min(9, len(source.frames))).save(temporary)
    seconds["total"] = sum(seconds.values())
    metrics = summary(made, seconds, ruler, model, job)
    write_json(out / "metrics.json", metrics)
    return metrics


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note under `name` how long the block takes."""
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def video_name(prompt: str, seed: int) -> str:
    """The file name of one video: no other prompt and seed has it."""
    return f"{slug(prompt)}-seed{seed}.mp4"


def measured(ruler: Ruler, made: Made, source: Source) -> Measurement:
    """What a video measures. It is made already: whatever goes wrong here is a reason why a score is missing."""
    try:
        return ruler.measure(made.frames, made.prompt, source)
    except (ValueError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        log.warning("not measured: %s", reason)
        return Measurement(reasons=dict.fromkeys(METRICS, reason))


def guided_by(model: BaseModel, source: Source, path: Path) -> MotionGuidance:
    """The base model's own guidance by the source, whose motion is written to `path`."""
    spec = model.denoiser.spec
    about = describe_source(source.name, source.fps, source.pixels, sha256=source.digest)
    reference = MotionReference(model.encode_video(source.pixels), spec.name, metadata=about)
    reference.save(path)
    return MotionGuidance(reference, model.encode_prompts([""]), Plan.for_spec(spec))


def sheet_rows(source: Source, made: dict[Row, list[Made]]) -> list[tuple[str, torch.Tensor]]:
    """The rows of the contact sheet. They are numbered as the prompts of metrics.json are, for prompts in scripts that
    the sheet's font does not have."""
    sheet = [("source video", source.pixels)]
    for number, videos in enumerate(zip(*made.values(), strict=True), 1):
        for row, one in zip(made, videos, strict=True):
            prompt = f"{one.prompt}  (seed {one.seed}), " if row == BASE else ""
            sheet.append((f"{number}. {prompt}{row.label}", one.frames))
    return sheet


def summary(
    made: dict[Row, list[Made]], seconds: dict[str, float], ruler: Ruler, model: BaseModel, job: TransferJob
) -> dict:
    """The content of metrics.json. A score that could not be measured is null; "not_measured" says why."""
    prompts = []
    for number, videos in enumerate(zip(*made.values(), strict=True), 1):
        found = dict(zip((row.name for row in made), videos, strict=True))
        reasons = {name: one.measured.reasons for name, one in found.items() if one.measured.reasons}
        prompt, seed = videos[0].prompt, videos[0].seed
        prompts.append(
            {
                "number": number,
                "prompt": prompt,
                "seed": seed,
                "video": video_name(prompt, seed),
                **{name: one.measured.scores() for name, one in found.items()},
                **({"not_measured": reasons} if reasons else {}),
            }
        )
    sampling = job.sampling.of(model.denoiser.spec)
    return {
        "prompts": prompts,
        "mean": {row.name: {name: _mean([p[row.name][name] for p in prompts]) for name in METRICS} for row in made},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "tracker": job.source.tracks.tracker,
        "measured_with": ruler.description,
        "model": model.name,
        "config": {
            **asdict(job.config),
            "keep": sampling.keep,
            "strength": sampling.strength,
            "sample_steps": sampling.steps,
            "cfg": sampling.cfg,
        },
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

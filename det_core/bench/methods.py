"""The methods of the benchmark over a base model: samples and measures one unit at a time.

none        the model without adapter
frozen      the first frame of that, held still: the floor of motion fidelity and the ceiling of consistency
guided      the model guided by the source's features, nothing trained
ditflow, flowmotion, dmt, moft, motionclone
            the same guidance with the loss of another training-free method, ported to DiTs
lora        LoRA on the attention projections of every block, trained with the denoising loss alone
dreambooth  the same at the rank of the paper's comparison
motiondirector, sma
            the same with the loss of another method
det         the motion adapter: temporal kernels and tracking loss, the recommended blocks kept
fast        the same, trained by the preset `fast`
fym         Follow-Your-Motion: both stages trained, the temporal LoRA alone at sampling
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..models.base_model import EMBEDDED_WORLD, BaseModel, load_base_model
from ..models.compute.precision import Compute
from ..models.families import DiTSpec
from ..models.generate import Sampling, generate, latent_shape
from ..source import Source, SourceFiles, load_source
from .adapters import TRAINED, Adapters, Trained, peak_mb, reset_peak
from .guided import GUIDED, guided_video
from .layout import Case
from .measures import SpriteMeasures, VideoMeasures, WorldMeasures
from .units import BASE, Outcome, Unit

NAMES = (BASE, "frozen", *GUIDED, *TRAINED)


@dataclass(frozen=True)
class MethodSettings:
    """What decides the numbers, beside case, method, prompt and seed. None takes the base model's own value."""

    model: str
    out: str  # adapters are kept in out/adapters
    device: str | None = None
    steps: int | None = None  # of every training
    sample_steps: int | None = None
    tracker: str = "auto"
    clip: str | None = None
    dino: str | None = None
    first_frame: bool = False  # every video is given its first frame, trainings the source's


def check_first_frame(spec: DiTSpec, model: str) -> None:
    """Raises: ValueError if no first frame can be given to the model of this name."""
    if not spec.family.of_world:
        raise ValueError(f"--first-frame: {model} takes no first frame; {EMBEDDED_WORLD} does")


def learnable(spec: DiTSpec) -> list[str]:
    """The methods that can learn on the base model `spec`: all, or all but Follow-Your-Motion."""
    return [name for name in NAMES if name != "fym" or (spec.family.placeable and not spec.experts)]


def check_methods(spec: DiTSpec, methods: Sequence[str]) -> None:
    """Raises: ValueError if one of these methods cannot learn on the base model `spec`."""
    why = "has two experts" if spec.experts else "cannot be told where in the clip a frame stands"
    if "fym" in methods and "fym" not in learnable(spec):
        raise ValueError(
            f"--methods fym: {spec.family.title} as a diffusers folder {why}, and Follow-Your-Motion looks at single "
            "frames and at some frames of a clip: leave fym out"
        )


class Methods:
    """Runs units; one per process. The last source and the last adapter stay in memory, so run groups in order."""

    def __init__(self, settings: MethodSettings, model: BaseModel | None = None):
        self.settings = settings
        self.model = load_base_model(settings.model, Compute.on(settings.device)) if model is None else model
        self.of_sprites = self.model.denoiser.spec.family.of_sprites
        tools = (str(self.model.denoiser.device), settings.clip, settings.dino)
        exact = WorldMeasures if self.model.denoiser.spec.family.of_world else SpriteMeasures
        self.measures = exact() if self.of_sprites else VideoMeasures(*tools)
        if settings.first_frame:
            check_first_frame(self.model.denoiser.spec, self.model.name)
        self._source: tuple[Case, Source] | None = None
        self._first_frames: dict[tuple[str, str, int], torch.Tensor] = {}

    def __call__(self, unit: Unit) -> Outcome:
        """Raises: ValueError for an unknown method or a source the model cannot take."""
        case, method, prompt, seed = unit.case, unit.method, unit.prompt, unit.seed
        if method not in NAMES:
            raise ValueError(f"no method is called {method!r}: use {', '.join(NAMES)}")
        source = self.source(case)
        first = _first_frame(case, prompt, source.pixels.shape[1:]) if self.settings.first_frame else None
        model = self.model if first is None else self.model.starting_with(first)
        trained, training = Trained(), {"train_s": 0.0, "peak_mb": 0.0}
        if method in TRAINED:
            trained, training = self.adapters.get(case.name, method, seed, source, case.caption)
        reset_peak(self.model)
        started = time.monotonic()
        if method == "frozen":
            frames = self._still(case, model, prompt, seed)
        elif method in GUIDED:
            steps = self.settings.sample_steps
            frames = guided_video(model, source, method, prompt, seed, steps, reader=self.adapters.model)
        else:
            frames = self._sample(source, model, trained, prompt, seed)
        cost = {
            "train_s": training["train_s"],
            "sample_s": time.monotonic() - started,
            "peak_mb": max(peak_mb(self.model), training["peak_mb"]),  # a NaN that stands first stays
        }
        if method == BASE:
            self._first_frames[case.name, prompt, seed] = frames[:1].clone()
        scores, tracks, look = self.measures.measure(frames, prompt, source)
        if first is not None:
            scores["first_frame_psnr"] = float(-10 * (frames[0] - first).pow(2).mean().log10())
        return Outcome(scores, cost, frames, source.fps, tracks, look)

    def source(self, case: Case) -> Source:
        """The case's video as the model takes it; its own tracks are used unless a tracker was asked for."""
        if self._source is None or self._source[0] != case:
            own = case.tracks if self.settings.tracker == "auto" and not self.of_sprites else None
            files = SourceFiles(case.video, case.mask, own, self.settings.tracker)
            denoiser = self.model.denoiser
            source = load_source(files, denoiser.spec, device=denoiser.device)
            self._source = case, source
            self._first_frames.clear()
            self.adapters = self._adapters_of(source)
        return self._source[1]

    def _adapters_of(self, source: Source) -> Adapters:
        changes = {} if self.settings.steps is None else {"steps": self.settings.steps}
        changes["bf16"] = self.model.denoiser.bf16
        learner = self.model.starting_with(source.pixels[0]) if self.settings.first_frame else self.model
        return Adapters(learner, Path(self.settings.out) / "adapters", changes)

    def _sample(self, source: Source, model: BaseModel, trained: Trained, prompt: str, seed: int) -> torch.Tensor:
        shape = latent_shape(model, *source.pixels.shape[:3])
        with trained.loras_attached(model.denoiser.transformer), torch.no_grad():
            sampling = Sampling(steps=self.settings.sample_steps)
            return next(generate(model, trained.kernels, [(prompt, seed)], shape, sampling))

    def _still(self, case: Case, model: BaseModel, prompt: str, seed: int) -> torch.Tensor:
        source = self.source(case)
        first = self._first_frames.get((case.name, prompt, seed))
        first = self._sample(source, model, Trained(), prompt, seed)[:1] if first is None else first
        return first.expand(len(source.pixels), -1, -1, -1).contiguous()


def _first_frame(case: Case, prompt: str, size: torch.Size) -> torch.Tensor:
    """The picture `size` (H, W, 3) in [0, 1] that the video of a prompt starts with.

    Raises: ValueError if the case has none, or one of another size.
    """
    if not case.first_frames:
        raise ValueError(f"{case.name} has no first_frames: put one PNG for each prompt there")
    path = case.first_frames[case.prompts.index(prompt)]
    with Image.open(path) as image:
        picture = torch.from_numpy(np.array(image.convert("RGB"))).float() / 255
    if picture.shape != size:
        raise ValueError(
            f"{path} has {picture.shape[1]}x{picture.shape[0]} pixels, the videos {size[1]}x{size[0]}: resize it"
        )
    return picture

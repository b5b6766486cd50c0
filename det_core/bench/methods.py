"""The methods of the benchmark over a base model: trains and caches adapters, samples, and measures one unit at a time.

none    the model without adapter
frozen  the first frame of that, held still: the floor of motion fidelity and the ceiling of consistency
lora    LoRA on the attention projections of every block, trained with the denoising loss alone
det     the motion adapter: temporal kernels and tracking loss, the recommended blocks kept
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..adapter import MotionAdapter
from ..base_model import EMBEDDED, BaseModel, load_base_model
from ..baselines.lora import LoRA
from ..files import atomic_write
from ..train import TrainConfig, fit
from ..transfer import Source, generate, load_source, train_on
from .layout import Case
from .measures import SpriteMeasures, VideoMeasures
from .units import Outcome

NAMES = ("none", "frozen", "lora", "det")
# The paper's DreamBooth-LoRA baseline; a model of a few million parameters needs a smaller rank and larger steps.
LORA = {"rank": 128, "lr": 1e-4}
EMBEDDED_LORA = {"rank": 16, "lr": 2e-2}


@dataclass(frozen=True)
class MethodSettings:
    """What decides the numbers, beside case, method, prompt and seed. None takes the base model's own value."""

    model: str
    out: str  # adapters are kept in out/adapters
    device: str | None = None
    steps: int | None = None
    sample_steps: int | None = None
    tracker: str = "auto"
    clip: str | None = None
    dino: str | None = None

    def device_name(self) -> str:
        """The device asked for, or CUDA where there is one."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


class Methods:
    """Runs units; one per process. The last source and the last adapter stay in memory, so run groups in order."""

    def __init__(self, settings: MethodSettings, model: BaseModel | None = None):
        device = settings.device_name()
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self.settings, self.out = settings, Path(settings.out)
        self.model = load_base_model(settings.model, device, dtype) if model is None else model
        embedded = self.model.name == EMBEDDED
        self.measures = SpriteMeasures() if embedded else VideoMeasures(device, settings.clip, settings.dino)
        changes = {} if settings.steps is None else {"steps": settings.steps}
        self.config = {**changes, "bf16": device.startswith("cuda")}
        self.lora = EMBEDDED_LORA if embedded else LORA
        self._source: tuple[Case, Source] | None = None
        self._adapter: tuple[tuple[str, str, int], torch.nn.Module, dict[str, float]] | None = None
        self._first_frames: dict[tuple[str, str, int], torch.Tensor] = {}

    def __call__(self, case: Case, method: str, prompt: str, seed: int) -> Outcome:
        """Run one unit. Raises: ValueError for an unknown method or a source the model cannot take."""
        if method not in NAMES:
            raise ValueError(f"no method is called {method!r}: use {', '.join(NAMES)}")
        source = self.source(case)
        adapter, training = (None, {"train_s": 0.0, "peak_mb": 0.0})
        if method in ("lora", "det"):
            adapter, training = self.adapter(case, method, seed)
        _reset_peak(self.model)
        started = time.monotonic()
        frames = self._still(case, prompt, seed) if method == "frozen" else self._sample(source, adapter, prompt, seed)
        cost = {
            "train_s": training["train_s"],
            "sample_s": time.monotonic() - started,
            "peak_mb": max(training["peak_mb"], _peak_mb(self.model)),
        }
        if method == "none":
            self._first_frames[case.name, prompt, seed] = frames[:1].clone()
        scores, tracks, look = self.measures.measure(frames, prompt, source)
        return Outcome(scores, cost, frames, source.fps, tracks, look)

    def source(self, case: Case) -> Source:
        """The case's video as the model takes it; its own tracks are used unless a tracker was asked for."""
        if self._source is None or self._source[0] != case:
            own = case.tracks if self.settings.tracker == "auto" and self.model.name != EMBEDDED else None
            source = load_source(case.video, self.model, mask=case.mask, tracks=own, tracker=self.settings.tracker)
            self._source = case, source
            self._first_frames.clear()
        return self._source[1]

    def adapter(self, case: Case, method: str, seed: int) -> tuple[torch.nn.Module, dict[str, float]]:
        """The adapter of (case, method, seed) and what training it cost; trained once, then read from out/adapters."""
        key = case.name, method, seed
        if self._adapter is None or self._adapter[0] != key:
            self._adapter = None
            path = self.out / "adapters" / case.name / f"{method}-seed{seed}.safetensors"
            cost_file = path.with_suffix(".json")
            if not cost_file.is_file():
                _reset_peak(self.model)
                started = time.monotonic()
                self._train_det(case, seed, path) if method == "det" else self._train_lora(case, seed, path)
                cost = {"train_s": time.monotonic() - started, "peak_mb": _peak_mb(self.model)}
                with atomic_write(cost_file) as temporary:
                    temporary.write_text(json.dumps(cost))
            adapter = MotionAdapter.load(path) if method == "det" else self._new_lora(seed)
            if method == "lora":
                adapter.load_state_dict(load_file(path))
            self._adapter = key, adapter.to(self.model.denoiser.device), json.loads(cost_file.read_text())
        return self._adapter[1], self._adapter[2]

    def _train_det(self, case: Case, seed: int, path: Path) -> None:
        config = TrainConfig.for_spec(self.model.denoiser.spec, seed=seed, **self.config)
        train_on(self.model, self.source(case), case.caption, config, path, resume=True)

    def _new_lora(self, seed: int) -> LoRA:
        return LoRA(self.model.denoiser.transformer, self.lora["rank"], torch.Generator().manual_seed(seed))

    def _train_lora(self, case: Case, seed: int, path: Path) -> None:
        denoiser = self.model.denoiser
        config = TrainConfig.for_spec(denoiser.spec, seed=seed, lr=self.lora["lr"], **self.config)
        latents, cond = self.model.encode_video(self.source(case).pixels), self.model.encode_prompts([case.caption])
        result = fit(denoiser, self._new_lora(seed).to(denoiser.device), latents, cond, None, config)
        with atomic_write(path) as temporary:
            save_file({k: v.contiguous() for k, v in result.adapter.state_dict().items()}, temporary)

    def _sample(self, source: Source, adapter: torch.nn.Module | None, prompt: str, seed: int) -> torch.Tensor:
        kernels = adapter if isinstance(adapter, MotionAdapter) else None
        lora = adapter.attached_to(self.model.denoiser.transformer) if isinstance(adapter, LoRA) else nullcontext()
        shape = self.model.encode_video(source.pixels).shape
        with lora, torch.no_grad():
            return generate(self.model, kernels, [prompt], [seed], shape, steps=self.settings.sample_steps)[0]

    def _still(self, case: Case, prompt: str, seed: int) -> torch.Tensor:
        source = self.source(case)
        first = self._first_frames.get((case.name, prompt, seed))
        first = self._sample(source, None, prompt, seed)[:1] if first is None else first
        return first.expand(len(source.pixels), -1, -1, -1).contiguous()


def _reset_peak(model: BaseModel) -> None:
    if model.denoiser.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.denoiser.device)


def _peak_mb(model: BaseModel) -> float:
    """Peak memory in MB: of the GPU since the last reset, or of this process since it started."""
    if model.denoiser.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.denoiser.device) / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6

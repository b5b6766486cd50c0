"""What the methods of the benchmark train: made once per (case, method, seed), kept in files, read back from them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..adapter.motion_adapter import MotionAdapter
from ..baselines.lora_losses import DrawnForLoRA, dreambooth, motion_director, spectral
from ..files import write_json
from ..learn import train_on
from ..lora.file import load_lora, save_lora
from ..lora.lora import LoRA
from ..models.base_model import BaseModel
from ..source import Source
from ..training.loop import TrainConfig, fingerprint, fit
from ..training.predicted import Predicted
from ..training.presets import preset_config
from ..training.saved import Saving, earlier_state
from ..training.state import state_path

SAVE_EVERY = 100  # steps between two writes of a training's state


@dataclass(frozen=True)
class LoRAMethod:
    """A method that is a LoRA: what it asks of the prediction, which projections learn, its rank (None: usual)."""

    loss: Callable[[Predicted], dict[str, torch.Tensor]]
    kinds: str = "qkvo"
    rank: int | None = None


LORAS = {
    "lora": LoRAMethod(dreambooth),
    "dreambooth": LoRAMethod(dreambooth, rank=128),
    "motiondirector": LoRAMethod(motion_director),
    "sma": LoRAMethod(spectral, kinds="qkv"),
}
DET = {"det": "paper", "fast": "fast"}  # a motion adapter, and the preset that trains it
TRAINED = (*LORAS, *DET, "fym")


@dataclass(frozen=True)
class Trained:
    """What acts while a video is sampled: kernels (which blocks keep them is theirs to say), or LoRAs at strength 1."""

    kernels: MotionAdapter | None = None
    loras: tuple[LoRA, ...] = ()

    @contextmanager
    def loras_attached(self, transformer: torch.nn.Module) -> Iterator[None]:
        with ExitStack() as stack:
            for lora in self.loras:
                stack.enter_context(lora.attached_to(transformer))
            yield


class Adapters:
    """The adapters of a run. The last one stays in memory, so ask for them case by case and method by method."""

    def __init__(self, model: BaseModel, folder: Path, changes: dict):
        """changes: to the base model's own training settings ("steps", "bf16"); for every training of a method."""
        self.model, self.folder, self.changes = model, folder, changes
        self.lora = model.denoiser.spec.family.plain_lora
        self._last: tuple[Path, Trained, dict[str, float]] | None = None

    def get(self, case: str, method: str, seed: int, source: Source, caption: str) -> tuple[Trained, dict[str, float]]:
        """The adapter, and what its training cost: train_s (seconds), peak_mb. What was just trained is read back too,
        so that an interrupted run and a whole one sample with the same numbers."""
        path = self.folder / case / f"{method}-seed{seed}.safetensors"
        if self._last is None or self._last[0] != path:
            self._last = None
            cost_file = path.with_suffix(".json")  # written last: it says that the training is complete
            if not cost_file.is_file():
                reset_peak(self.model)
                started = time.monotonic()
                self._train(method, source, caption, seed, path)
                cost = {"train_s": time.monotonic() - started, "peak_mb": peak_mb(self.model)}
                write_json(cost_file, cost)
            self._last = path, self._read(method, path), json.loads(cost_file.read_text())
        return self._last[1:]

    def _read(self, method: str, path: Path) -> Trained:
        denoiser = self.model.denoiser
        if method in DET:
            return Trained(MotionAdapter.load(path).to(denoiser.device))
        return Trained(loras=(load_lora(path, denoiser.spec).to(denoiser.device),))

    def _train(self, method: str, *what) -> None:
        if method in LORAS:
            return self._train_lora(LORAS[method], *what)
        if method in DET:
            return self._train_det(DET[method], *what)
        return self._train_fym(*what)

    def _train_det(self, preset: str, source: Source, caption: str, seed: int, path: Path) -> None:
        config = preset_config(preset, self.model.denoiser.spec, seed=seed, **self.changes)
        train_on(self.model, source, caption, config, path, resume=True)

    def _train_lora(self, method: LoRAMethod, source: Source, caption: str, seed: int, path: Path) -> None:
        denoiser = self.model.denoiser
        config = TrainConfig.for_spec(denoiser.spec, seed=seed, lr=self.lora["lr"], **self.changes)
        rank, generator = method.rank or self.lora["rank"], torch.Generator().manual_seed(seed)
        lora = LoRA(denoiser.transformer, rank, generator, kinds=method.kinds).to(denoiser.device)
        latents, cond = self.model.encode_video(source.pixels), self.model.encode_prompts([caption])
        learns_from = fingerprint(latents, cond)
        state_file = state_path(path, learns_from)
        with Saving(state_file, SAVE_EVERY) as saving:
            result = fit(
                denoiser,
                lora,
                DrawnForLoRA(denoiser, latents, cond, config, method.loss),
                config,
                learns_from=learns_from,
                shape=latents.shape,
                on_step=saving,
                resume=earlier_state(state_file, config, learns_from),
            )
        save_lora(path, result.adapter, denoiser.spec, "diffusers")

    def _train_fym(self, source: Source, caption: str, seed: int, path: Path) -> None:
        """Both stages; the spatial LoRA is kept beside the temporal one, which alone acts on new looks."""
        from ..fym.classify import classify_heads
        from ..fym.sparse import sparse_count, sparse_latents, still_examples
        from ..fym.train import LoRAConfig, group_lora, learned_by_lora, train_lora

        denoiser, spec = self.model.denoiser, self.model.denoiser.spec
        latents, cond = self.model.encode_video(source.pixels), self.model.encode_prompts([caption])
        heads = classify_heads(denoiser, latents, cond, seed=seed)
        alone = {name: value for name, value in cond.items() if name != "first_frame"}  # a still begins no video
        conds = {"spatial": alone, "temporal": cond}
        examples = {
            "spatial": still_examples(self.model.encode_video, source.pixels),
            "temporal": sparse_latents(latents, sparse_count(latents.shape[2], spec.patch[0]), patch=spec.patch[0]),
        }
        spatial = None
        for stage in ("spatial", "temporal"):
            config = LoRAConfig.for_stage(spec, stage, seed=seed, **self.changes)
            lora = group_lora(denoiser.transformer, heads, stage, config)
            name = path if stage == "temporal" else path.with_name(f"{path.stem}.spatial.safetensors")
            learns_from = learned_by_lora(examples[stage], conds[stage], spatial)
            state_file = state_path(name, learns_from)
            earlier = earlier_state(state_file, config, learns_from)
            with Saving(state_file, SAVE_EVERY) as saving:
                result = train_lora(
                    denoiser,
                    lora,
                    examples[stage],
                    conds[stage],
                    config,
                    frozen=spatial,
                    on_step=saving,
                    resume=earlier,
                )
            save_lora(name, result.adapter, spec, "diffusers")
            spatial = result.adapter


def reset_peak(model: BaseModel) -> None:
    """Start counting the GPU's peak memory anew."""
    if model.denoiser.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.denoiser.device)


def peak_mb(model: BaseModel) -> float:
    """Peak memory in MB: of the GPU since the last reset, or of this process since it started."""
    if model.denoiser.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.denoiser.device) / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6

"""Videos of prompts and seeds from a whole base model, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch

from .base_model import BaseModel
from .denoiser import Adapter
from .families import DiTSpec
from .sample import Guidance, sample


@dataclass(frozen=True)
class Sampling:
    """How videos are sampled. None takes the base model's own value, for `keep` the blocks that the adapter advises."""

    steps: int | None = None
    cfg: float | None = None
    keep: Sequence[int] | None = None  # blocks whose kernels act
    strength: float = 1.0  # factor on what the kernels add

    def of(self, spec: DiTSpec) -> Sampling:
        """The same with the base model's steps and cfg filled in."""
        defaults = spec.defaults
        return replace(
            self,
            steps=defaults.sample_steps if self.steps is None else self.steps,
            cfg=defaults.cfg if self.cfg is None else self.cfg,
        )


def generate(
    model: BaseModel,
    adapter: Adapter | None,
    jobs: Sequence[tuple[str, int]],
    shape: torch.Size,
    sampling: Sampling | None = None,
    *,
    guidance: Guidance | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[torch.Tensor]:
    """The video (T, H, W, 3), on the CPU, of each (prompt, seed), from latents of `shape`; each as soon as it is there.

    The same seed starts from the same noise with and without an adapter. As many are sampled together as the model does
    well at once (`BaseModel.at_once`).

    Args:
        guidance: moves the latents while they are sampled; see `sample`.
        on_step: called as on_step(done, total) over the denoising steps of all of them; may raise to stop.
    """
    sampling = (sampling or Sampling()).of(model.denoiser.spec)
    starts = range(0, len(jobs), model.at_once)
    for number, start in enumerate(starts):
        group = jobs[start : start + model.at_once]
        before, total = number * sampling.steps, len(starts) * sampling.steps
        latents = sample(
            model.denoiser,
            model.encode_prompts([prompt for prompt, _ in group]),
            model.encode_prompts([""] * len(group)),
            torch.cat([initial_noise(shape, seed) for _, seed in group]),
            adapter=adapter,
            guidance=guidance,
            on_step=on_step and partial(_counted, on_step, before, total),
            **asdict(sampling),
        )
        for one in latents:
            yield model.decode_video(one[None])


def initial_noise(shape: torch.Size, seed: int) -> torch.Tensor:
    """Noise of one video."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latent_shape(model: BaseModel, frames: int, height: int, width: int) -> torch.Size:
    """(1, C, T, H, W) of the latents of a video of this size."""
    spec = model.denoiser.spec
    cells = spec.frames.latent_frames(frames), height // spec.spatial_compression, width // spec.spatial_compression
    return torch.Size((1, spec.family.latent_channels(model.denoiser.transformer), *cells))


def _counted(on_step: Callable[[int, int], None], before: int, total: int, done: int, _steps: int) -> None:
    on_step(before + done, total)

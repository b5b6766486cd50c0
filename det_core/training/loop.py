"""Learn the motion of one source video as an adapter: the training loop, for a motion adapter and for anything else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import nn

from ..adapter.motion_adapter import MotionAdapter
from ..models.compute.memory import choose_policy
from ..models.denoiser import Condition, Denoiser
from ..models.families import unwrapped
from ..tracking.tracks import Tracks
from .config import FitConfig, TrainConfig
from .draws import DrawnFromViews
from .not_finite import first_bad_block
from .run import NonFiniteLoss, TrainingRun, TrainResult
from .state import TrainState

__all__ = [
    "DrawLoss",
    "FitConfig",
    "NonFiniteLoss",
    "OnStep",
    "TrainConfig",
    "TrainResult",
    "TrainingRun",
    "check_resumable",
    "fingerprint",
    "fit",
    "train_motion_adapter",
]

OnStep = Callable[[TrainingRun, dict[str, float]], None]
LOSS_SCALE = 2.0**16  # as torch.amp.GradScaler begins; constant, so that a run is resumed bit for bit
DrawLoss = Callable[[torch.Generator], dict[str, torch.Tensor]]  # the named terms of one step, "total" among them


def train_motion_adapter(
    denoiser: Denoiser,
    latents: torch.Tensor,
    cond: Condition,
    tracks: Tracks | None,
    config: TrainConfig,
    *,
    full_size: tuple[int, int] | None = None,
    on_step: OnStep | None = None,
    resume: TrainState | None = None,
) -> TrainResult:
    """Train temporal kernels beside every block's attention on one source video.        (DeT, arXiv 2503.17350, 3.2)

    All blocks are trained, although the last ones are dropped at sampling: they take up appearance that the kept ones
    would otherwise have to learn.

    Args:
        latents: (1, C, T, H, W) of the source in the model's space; the VAE's mode or a sample. With a `config.scale`
            below 1, of the source at that scale (`views.scaled_frames`).
        cond: the encoded caption of the source, batch 1.
        tracks: foreground tracks of the source; None trains without the tracking loss.
        full_size: with a `config.scale` below 1, rows and columns of the latents at full size.
        on_step: called after each completed step with the run and that step's losses; may raise to stop. The run it got
            stays valid, so whoever stops can still save `run.result()`.
        resume: the state of an earlier run with the same configuration; `steps` may be larger. Continues bit-exactly.
    Raises: ValueError if `resume` belongs to another configuration; NonFiniteLoss.
    """
    generator = torch.Generator().manual_seed(config.seed)
    adapter = MotionAdapter.create(
        denoiser.spec, config.mid_dim, config.kernel_size, drop_fraction=config.drop_fraction, generator=generator
    )
    for kernel in adapter.blocks.values():
        kernel.down.requires_grad_(config.train_down)
    draw = DrawnFromViews(denoiser, latents, cond, tracks, config, full_size)
    return fit(
        denoiser,
        adapter.to(denoiser.device),
        draw,
        config,
        learns_from=fingerprint(latents, cond, tracks),
        shape=draw.shape,
        on_step=on_step,
        resume=resume,
    )


def fit(
    denoiser: Denoiser,
    adapter: nn.Module,
    draw: DrawLoss,
    config: FitConfig,
    *,
    learns_from: str,
    shape: torch.Size,
    on_step: OnStep | None = None,
    resume: TrainState | None = None,
) -> TrainResult:
    """Train the parameters of any `adapter` that `denoiser.attached` can install; see `train_motion_adapter`.

    Args:
        draw: one step's loss: draws from the run's generator, gives the named terms, "total" among them.
        learns_from: `fingerprint` of all that `draw` learns from; a run is only ever resumed with the same.
        shape: of the latents that a step looks at, (1, C, T, H, W); decides what memory it takes.
    """
    parameters = [p for p in adapter.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=config.betas,
        eps=1e-8,
        weight_decay=config.weight_decay,
        fused=_fused(parameters),
    )
    generator = torch.Generator().manual_seed(config.seed + 1)
    run = TrainingRun(adapter, config, optimizer, generator, learns_from, lag=int(denoiser.device.type == "cuda"))
    if resume is not None:
        check_resumable(resume, config, learns_from)
        run.restore(resume)
    with _checkpointing(denoiser, adapter, shape, config), denoiser.attached(adapter), torch.enable_grad():
        try:
            while run.step < config.steps:
                terms = draw(run.generator)
                if not terms["total"].requires_grad:
                    raise ValueError(_nothing_learns(denoiser))
                optimizer.zero_grad(set_to_none=True)
                _backward(terms["total"], parameters)
                norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.param_groups[0]["lr"] = config.rate(run.step)
                newest = run.complete(terms, norm)
                if on_step is not None:
                    on_step(run, newest)
            run.finish()
        except NonFiniteLoss as error:
            where = first_bad_block(denoiser.transformer, denoiser.spec, partial(run.draw_again, draw))
            raise NonFiniteLoss(f"{error} {where}", run) from None
    return run.result()


def check_resumable(earlier: TrainState, config: FitConfig, learns_from: str | None = None) -> None:
    """Refuse to continue `earlier` with other settings, or, where its fingerprint is given, from another source.

    `fit` calls it, too; calling it before says so before the source is encoded.

    More steps may be asked for, unless the learning rate falls to zero over them; checkpointing changes no result.
    Raises: ValueError naming what differs.
    """
    # A state says nothing of settings that came after it: it was made with their defaults.
    earlier = replace(earlier, config={**asdict(type(config)()), **earlier.config})
    started = earlier.config["steps"]
    if config.decay and earlier.config["decay"] and started != config.steps:
        raise ValueError(
            f"cannot resume: the earlier run was started for {started} steps, over which the learning rate falls to "
            f"zero: resume it with that number (not {config.steps}), or start anew"
        )
    earlier.check(asdict(config), free=("checkpoint", "steps"))
    if learns_from is not None and learns_from != earlier.learns_from:
        raise ValueError(
            "cannot resume: the earlier run learned from something else (another video, caption, tracks, choice of "
            "frames, or LoRA beneath). Start anew or restore it."
        )


def fingerprint(latents: torch.Tensor, named: Mapping[str, torch.Tensor], tracks: Tracks | None = None) -> str:
    """16 hexadecimal digits of everything that is learned from, by value: latents, the condition or other tensors by
    name, tracks."""
    digest = hashlib.sha256()
    for tensor in (latents, *(named[k] for k in sorted(named)), *((tracks.points, tracks.visible) if tracks else ())):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _nothing_learns(denoiser: Denoiser) -> str:
    model = type(unwrapped(denoiser.transformer)).__name__
    return (
        f"the loss does not depend on what is to be learned: {model} was run without {denoiser.spec.taps[0].input}, "
        "where it acts, or without gradients. Nothing was trained; update this pack, or use another base model"
    )


def _backward(total: torch.Tensor, parameters: list[nn.Parameter]) -> None:
    """Gradients of the loss, which is a mean over a million numbers: in a model that computes in float16 they are less
    than it can hold unless they are larger on their way. By a power of two, which changes no bit in other formats."""
    (total * LOSS_SCALE).backward()
    torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / LOSS_SCALE)


def _fused(parameters: list[nn.Parameter]) -> bool:
    """Whether torch has AdamW as one kernel for these parameters."""
    return all(p.device.type in ("cpu", "cuda") for p in parameters)


def _checkpointing(
    denoiser: Denoiser, adapter: nn.Module, shape: torch.Size, config: FitConfig
) -> AbstractContextManager:
    """The checkpointing that was asked for, or that memory asks for."""
    chosen = choose_policy(denoiser, adapter, shape, config) if config.checkpoint == "auto" else config.checkpoint
    return denoiser.checkpointed(chosen)

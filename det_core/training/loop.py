"""Learn the motion of one source video as an adapter: the training loop, its configuration and its resumable state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from ..adapter.motion_adapter import MotionAdapter
from ..models.compute.checkpointing import POLICIES
from ..models.compute.memory import choose_policy
from ..models.denoiser import Condition, Denoiser
from ..models.families import DiTSpec, unwrapped
from ..tracking.tracks import Tracks
from .losses import Followed, denoising_loss, tracking_loss
from .not_finite import first_bad_block
from .run import NonFiniteLoss, TrainingRun, TrainResult
from .state import TrainState
from .views import View, training_views


@dataclass(frozen=True)
class TrainConfig:
    """How an adapter is trained. Defaults: the paper's for CogVideoX-5B; `for_spec` gives each base model's own."""

    steps: int = 500
    lr: float = 1e-5
    weight_decay: float = 1e-2  # the paper's; the released code's default is 1e-4
    betas: tuple[float, float] = (0.9, 0.95)  # the released code's AdamW
    warmup: int = 0  # steps over which the learning rate rises linearly
    decay: bool = False  # let the learning rate fall linearly to zero; the paper keeps it constant
    batch: int = 1  # independent (noise, t) draws a step
    timestep_power: float = 1.0  # t = 1000 u^power; 1 is uniform (the paper), below 1 draws towards noise
    seed: int = 0
    denoising_weight: float = 1.0  # lambda_DL of eq. 5
    tracking_weight: float = 0.1  # lambda_TL of eq. 5
    tracking_sampling: str = "bilinear"  # "nearest" as in the released code
    tracking_reduction: str = "visible"  # "all" as in the released code
    max_grad_norm: float = 1.0
    mid_dim: int | None = None  # of the temporal kernels; None: the base model's paper value
    kernel_size: int | None = None  # latent frames; None: the base model's paper value
    bf16: bool = False  # compute under bfloat16 autocast; adapter and optimiser stay float32
    scale: float = 1.0  # of the latents against the size that is sampled; their tokens stand where the full size's do
    frame_window: int | None = None  # latent frames a step looks at, consecutive, at random; None: all
    train_down: bool = True  # False leaves the down projections as drawn; only the up projections learn
    checkpoint: str = "auto"  # what blocks keep for backward: none, attention, full; auto: the fastest that fits

    def __post_init__(self):
        if not 0 < self.scale <= 1:
            raise ValueError(f"the training scale lies above 0 and at most at 1, got {self.scale:g}")
        if self.checkpoint not in ("auto", *POLICIES):
            raise ValueError(f'checkpoint is one of auto, {", ".join(POLICIES)}; got "{self.checkpoint}"')
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"training needs at least 1 step and a batch of 1; got {self.steps} steps, batch {self.batch}"
            )

    @classmethod
    def for_spec(cls, spec: DiTSpec, **changes) -> TrainConfig:
        """The paper's settings for the base model `spec`, with some of them changed."""
        shared = ("steps", "lr", "weight_decay", "warmup", "decay", "batch", "mid_dim", "kernel_size")
        return cls(**{**{name: getattr(spec.defaults, name) for name in shared}, **changes})


OnStep = Callable[[TrainingRun, dict[str, float]], None]
DrawLoss = Callable[[torch.Generator], dict[str, torch.Tensor]]


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
    adapter = MotionAdapter.create(denoiser.spec, config.mid_dim, config.kernel_size, generator=generator)
    for kernel in adapter.blocks.values():
        kernel.down.requires_grad_(config.train_down)
    adapter.to(denoiser.device)
    draw = _drawn_from_views(denoiser, latents, cond, tracks, config, full_size)
    return fit(denoiser, adapter, latents, cond, tracks, config, on_step=on_step, resume=resume, loss=draw)


def fit(
    denoiser: Denoiser,
    adapter: nn.Module,
    latents: torch.Tensor,
    cond: Condition,
    tracks: Tracks | None,
    config: TrainConfig,
    *,
    on_step: OnStep | None = None,
    resume: TrainState | None = None,
    loss: DrawLoss | None = None,
) -> TrainResult:
    """Train the parameters of any `adapter` that `denoiser.attached` can install; see `train_motion_adapter`.

    `loss` replaces DeT's: one draw from the run's generator to the named terms of a step, "total" among them.
    """
    draw = loss or _drawn_from_views(denoiser, latents, cond, tracks, config)
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
    source = _fingerprint(latents, cond, tracks)
    run = TrainingRun(adapter, config, optimizer, generator, source, lag=int(denoiser.device.type == "cuda"))
    if resume is not None:
        check_resumable(resume, config, source)
        run.restore(resume)
    with _checkpointing(denoiser, adapter, latents, config), denoiser.attached(adapter), torch.enable_grad():
        try:
            while run.step < config.steps:
                terms = draw(run.generator)
                if not terms["total"].requires_grad:
                    raise ValueError(_nothing_learns(denoiser))
                optimizer.zero_grad(set_to_none=True)
                terms["total"].backward()
                norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.param_groups[0]["lr"] = config.lr * _lr_factor(config, run.step)
                newest = run.complete(terms, norm)
                if on_step is not None:
                    on_step(run, newest)
            run.finish()
        except NonFiniteLoss as error:
            where = first_bad_block(denoiser.transformer, denoiser.spec, lambda: run.again(draw))
            raise NonFiniteLoss(f"{error} {where}", run) from None
    return run.result()


def check_resumable(earlier: TrainState, config: TrainConfig, source: str | None = None) -> None:
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
    if source is not None and source != earlier.config["source"]:
        raise ValueError(
            "cannot resume: the earlier run learned from something else (another video, caption, tracks, choice of "
            "frames, or LoRA beneath). Start anew or restore it."
        )


def _nothing_learns(denoiser: Denoiser) -> str:
    model = type(unwrapped(denoiser.transformer)).__name__
    return (
        f"the loss does not depend on what is to be learned: {model} was run without {denoiser.spec.taps[0].input}, "
        "where it acts, or without gradients. Nothing was trained; update this pack, or use another base model"
    )


def _fused(parameters: list[nn.Parameter]) -> bool:
    """Whether torch has AdamW as one kernel for these parameters."""
    return all(p.device.type in ("cpu", "cuda") for p in parameters)


def _checkpointing(
    denoiser: Denoiser, adapter: nn.Module, latents: torch.Tensor, config: TrainConfig
) -> AbstractContextManager:
    """The checkpointing that was asked for, or that memory asks for; a denoiser without `checkpointed` has its own."""
    if not hasattr(denoiser, "checkpointed"):
        return nullcontext()
    if config.checkpoint != "auto":
        return denoiser.checkpointed(config.checkpoint)
    frames = config.frame_window or latents.shape[2]
    shape = torch.Size((*latents.shape[:2], frames, *latents.shape[3:]))
    return denoiser.checkpointed(choose_policy(denoiser, adapter, shape, config))


def _fingerprint(latents: torch.Tensor, cond: Condition, tracks: Tracks | None) -> str:
    """A short hash of everything that is learned from, so that a run is only ever resumed with the same source."""
    digest = hashlib.sha256()
    tensors = [latents, *(cond[k] for k in sorted(cond)), *((tracks.points, tracks.visible) if tracks else ())]
    for tensor in tensors:
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _lr_factor(config: TrainConfig, step: int) -> float:
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return rise * ((config.steps - step) / config.steps if config.decay else 1.0)


def _drawn_from_views(
    denoiser: Denoiser,
    latents: torch.Tensor,
    cond: Condition,
    tracks: Tracks | None,
    config: TrainConfig,
    full_size: tuple[int, int] | None = None,
) -> DrawLoss:
    views = training_views(
        denoiser.spec,
        latents.to(denoiser.device),
        tracks,
        scale=config.scale,
        full_size=full_size,
        frame_window=config.frame_window,
    )
    with views[0].placed(denoiser):
        pass  # a model that cannot do this says so now
    followed = [
        Followed.of(view.tracks, view.latents.shape, denoiser.device)
        if view.tracks and config.tracking_weight
        else None
        for view in views
    ]

    def draw(generator: torch.Generator) -> dict[str, torch.Tensor]:
        index = int(torch.randint(len(views), (), generator=generator)) if len(views) > 1 else 0
        return _losses(denoiser, views[index], followed[index], cond, config, generator)

    return draw


def _losses(
    denoiser: Denoiser,
    view: View,
    followed: Followed | None,
    cond: Condition,
    config: TrainConfig,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """One draw of noise and time, one forward, the named terms of eq. 5 and their weighted sum. On a GPU nothing here
    waits for the device."""
    x0 = view.latents.expand(config.batch, *view.latents.shape[1:])
    cond = {k: v.expand(config.batch, *v.shape[1:]) for k, v in cond.items()}
    t = denoiser.sample_t(config.batch, generator, config.timestep_power)
    # The released code tracks only where the noise is low enough (t <= 400): above it, x0 predictions are too blurred.
    low_noise = denoiser.tracked(t).nonzero().flatten()
    t, low_noise = _sent(t, x0.device), _sent(low_noise, x0.device)
    noise = _sent(torch.randn(x0.shape, generator=generator, pin_memory=x0.is_cuda), x0.device).to(x0)
    with view.placed(denoiser), torch.autocast(x0.device.type, torch.bfloat16, enabled=config.bf16):
        x0_pred = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)
    terms = {"denoising": denoising_loss(x0_pred, x0, denoiser.loss_weight(t))}
    total = config.denoising_weight * terms["denoising"]
    if followed is not None and len(low_noise):
        tracked = tracking_loss(
            x0_pred.index_select(0, low_noise),
            followed,
            sampling=config.tracking_sampling,
            reduction=config.tracking_reduction,
        )
        terms["tracking"] = tracked
        total = total + config.tracking_weight * tracked * (len(low_noise) / config.batch)
    else:
        terms["tracking"] = torch.full_like(terms["denoising"], float("nan"), requires_grad=False)
    return {**terms, "total": total}


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, without waiting for what runs there."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)

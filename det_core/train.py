"""Learn the motion of one source video as an adapter: the training loop, its configuration and its resumable state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from .adapter import MotionAdapter
from .denoiser import Condition, Denoiser
from .dit import DiTSpec
from .losses import denoising_loss, tracking_loss
from .tracks import Tracks
from .train_state import TrainState


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

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"training needs at least 1 step and a batch of 1; got {self.steps} steps, batch {self.batch}"
            )

    @classmethod
    def for_spec(cls, spec: DiTSpec, **changes) -> TrainConfig:
        """The paper's settings for the base model `spec`, with some of them changed."""
        shared = ("steps", "lr", "weight_decay", "warmup", "decay", "batch", "mid_dim", "kernel_size")
        return cls(**{**{name: getattr(spec.defaults, name) for name in shared}, **changes})


class NonFiniteLoss(ValueError):
    """A loss became NaN or infinite; `run` holds everything up to the last good step."""

    def __init__(self, message: str, run: TrainingRun):
        super().__init__(message)
        self.run = run


@dataclass(frozen=True)
class TrainResult:
    adapter: nn.Module
    losses: dict[str, list[float]]  # per step: "denoising", "tracking" (NaN at steps whose noise is too high), "total"
    state: TrainState


@dataclass
class TrainingRun:
    """A training in progress. It is whole after every step: what is read from it is always a completed step."""

    adapter: nn.Module
    config: TrainConfig
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    source: str  # fingerprint of what is learned: latents, condition, tracks
    step: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)

    def state(self) -> TrainState:
        """A copy of everything that resuming needs."""
        settings = {**asdict(self.config), "source": self.source}
        return TrainState.capture(self.adapter, self.optimizer, self.generator, self.step, self.losses, settings)

    def result(self) -> TrainResult:
        return TrainResult(self.adapter, self.losses, self.state())


OnStep = Callable[[TrainingRun, dict[str, float]], None]
DrawLoss = Callable[[torch.Generator], dict[str, torch.Tensor]]


def train_motion_adapter(
    denoiser: Denoiser,
    latents: torch.Tensor,
    cond: Condition,
    tracks: Tracks | None,
    config: TrainConfig,
    *,
    on_step: OnStep | None = None,
    resume: TrainState | None = None,
) -> TrainResult:
    """Train temporal kernels beside every block's attention on one source video.        (DeT, arXiv 2503.17350, 3.2)

    All blocks are trained, although the last ones are dropped at sampling: they take up appearance that the kept ones
    would otherwise have to learn.

    Args:
        latents: (1, C, T, H, W) of the source in the model's space; the VAE's mode or a sample.
        cond: the encoded caption of the source, batch 1.
        tracks: foreground tracks of the source; None trains without the tracking loss.
        on_step: called after each completed step with the run and that step's losses; may raise to stop. The run it got
            stays valid, so whoever stops can still save `run.result()`.
        resume: the state of an earlier run with the same configuration; `steps` may be larger. Continues bit-exactly.
    Raises: ValueError if `resume` belongs to another configuration; NonFiniteLoss.
    """
    generator = torch.Generator().manual_seed(config.seed)
    adapter = MotionAdapter.create(denoiser.spec, config.mid_dim, config.kernel_size, generator=generator)
    return fit(denoiser, adapter.to(denoiser.device), latents, cond, tracks, config, on_step=on_step, resume=resume)


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
    draw = loss or (lambda generator: _losses(denoiser, latents, cond, tracks, config, generator))
    parameters = [p for p in adapter.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, eps=1e-8, weight_decay=config.weight_decay
    )
    generator = torch.Generator().manual_seed(config.seed + 1)
    run = TrainingRun(adapter, config, optimizer, generator, _fingerprint(latents, cond, tracks))
    if resume is not None:
        settings = {**asdict(config), "source": run.source}
        run.step, run.losses = resume.restore(
            adapter, optimizer, generator, settings, free=() if config.decay else ("steps",)
        )
    with denoiser.attached(adapter), torch.enable_grad():
        while run.step < config.steps:
            terms = draw(run.generator)
            _check_finite(terms, run)
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            if not torch.isfinite(norm):
                raise NonFiniteLoss(
                    f"the gradient became {norm.item()} at step {run.step + 1}; lower the learning rate", run
                )
            optimizer.param_groups[0]["lr"] = config.lr * _lr_factor(config, run.step)
            optimizer.step()
            values = {name: value.item() for name, value in terms.items()}
            for name, value in values.items():
                run.losses.setdefault(name, []).append(value)
            run.step += 1
            if on_step is not None:
                on_step(run, values)
    return run.result()


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


def _losses(
    denoiser: Denoiser,
    latents: torch.Tensor,
    cond: Condition,
    tracks: Tracks | None,
    config: TrainConfig,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """One draw of noise and time, one forward, the named terms of eq. 5 and their weighted sum."""
    x0 = latents.to(denoiser.device).expand(config.batch, *latents.shape[1:])
    cond = {k: v.expand(config.batch, *v.shape[1:]) for k, v in cond.items()}
    t = denoiser.sample_t(config.batch, generator, config.timestep_power)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=config.bf16):
        x0_pred = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)
    terms = {"denoising": denoising_loss(x0_pred, x0, denoiser.loss_weight(t))}
    total = config.denoising_weight * terms["denoising"]
    # The released code tracks only where the noise is low enough (t <= 400): above it, x0 predictions are too blurred.
    low_noise = denoiser.tracked(t)
    if tracks is not None and config.tracking_weight and low_noise.any():
        tracked = tracking_loss(
            x0_pred[low_noise], tracks, sampling=config.tracking_sampling, reduction=config.tracking_reduction
        )
        terms["tracking"] = tracked
        total = total + config.tracking_weight * tracked * low_noise.float().mean()
    else:
        terms["tracking"] = torch.tensor(float("nan"))
    return {**terms, "total": total}


def _check_finite(terms: dict[str, torch.Tensor], run: TrainingRun) -> None:
    for name, value in terms.items():
        if value.requires_grad and not torch.isfinite(value):
            raise NonFiniteLoss(
                f"the {name} loss became {value.item()} at step {run.step + 1}; "
                f"the last good step ({run.step}) is kept. Lower the learning rate or train in float32.",
                run,
            )

"""How a training is run: what every training is told, and what a motion adapter's is told beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from .. import __version__
from ..models.compute.checkpointing import POLICIES
from ..models.families import DiTSpec
from ..models.families.spec import Optimisation
from ..models.noise import NOISES, Noise


@dataclass(frozen=True, kw_only=True)
class FitConfig(Optimisation):
    """What `loop.fit` looks at, whatever it trains. Steps, learning rate and so on: see `Optimisation`."""

    betas: tuple[float, float] = (0.9, 0.95)  # the released code's AdamW
    seed: int = 0
    denoising_weight: float = 1.0  # lambda_DL of DeT's eq. 5
    max_grad_norm: float = 1.0
    bf16: bool = False  # compute under bfloat16 autocast; adapter and optimiser stay float32
    checkpoint: str = "auto"  # what blocks keep for backward: none, attention, full; auto: the fastest that fits

    def __post_init__(self):
        if self.checkpoint not in ("auto", *POLICIES):
            raise ValueError(f'checkpoint is one of auto, {", ".join(POLICIES)}; got "{self.checkpoint}"')
        if not 0 <= self.average < 1:
            raise ValueError(f"a running average keeps a share of 0 (none) to below 1, got {self.average:g}")
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"training needs at least 1 step and a batch of 1; got {self.steps} steps, batch {self.batch}"
            )

    @property
    def kernel_shape(self) -> dict[str, int | None]:
        """`mid_dim` and `kernel_size` of what is trained, where it has kernels."""
        return {}

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: a linear rise over `warmup` steps, with `decay` a linear fall to
        zero at the end."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * (rise * ((self.steps - step) / self.steps if self.decay else 1.0))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """How a motion adapter is trained. Defaults: the paper's for CogVideoX-5B; `for_spec` has each base model's own."""

    timestep_power: float = 1.0  # t = 1000 u^power; 1 is uniform (the paper), below 1 draws towards noise
    noise: str = "uniform"  # "as sampled": times as likely as a sampler is to call the model there
    noise_span: tuple[float, float] = (0.0, 1.0)  # of the noise that is looked at, 0 clean; `noise.SPANS` names some
    tracking_weight: float = 0.1  # lambda_TL of eq. 5
    tracking_sampling: str = "bilinear"  # "nearest" as in the released code
    tracking_reduction: str = "visible"  # "all" as in the released code
    mid_dim: int | None = None  # of the temporal kernels; None: the base model's paper value
    kernel_size: int | None = None  # latent frames; None: the base model's paper value
    scale: float = 1.0  # of the latents against the size that is sampled; their tokens stand where the full size's do
    frame_window: int | None = None  # latent frames a step looks at, consecutive, at random; None: all
    drop_fraction: float | None = None  # of the blocks, that the adapter advises to drop; None: the base model's own
    train_down: bool = True  # False leaves the down projections as drawn; only the up projections learn

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.scale <= 1:
            raise ValueError(f"the training scale lies above 0 and at most at 1, got {self.scale:g}")
        if self.noise not in NOISES:
            raise ValueError(f'noise is one of {", ".join(NOISES)}; got "{self.noise}"')
        low, high = self.noise_span
        if not 0 <= low < high <= 1:
            raise ValueError(f"the span of noise runs from 0 (clean) to 1 at most, got {low:g} to {high:g}")

    @property
    def draw(self) -> Noise:
        """How a step draws its times."""
        return Noise(self.timestep_power, tuple(self.noise_span), self.noise == "as sampled")

    @property
    def kernel_shape(self) -> dict[str, int | None]:
        return {"mid_dim": self.mid_dim, "kernel_size": self.kernel_size}

    @classmethod
    def for_spec(cls, spec: DiTSpec, **changes) -> TrainConfig:
        """The settings of the base model `spec`, the paper's where it tried that one, with some of them changed."""
        names = [field.name for field in fields(Optimisation)] + ["mid_dim", "kernel_size"]
        return cls(**{**{name: getattr(spec.defaults, name) for name in names}, **changes})


def how_trained(config: FitConfig, losses: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """What the file of a trained adapter says of its training: settings, steps, the last finite value of each loss."""
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in losses.items()}
    return {
        "config": json.dumps(asdict(config)),
        "steps": str(len(losses["total"])),
        "losses": json.dumps({name: values[-1] for name, values in finite.items() if values}),
        "seed": str(config.seed),
        "pack_version": __version__,
    }

"""A training in progress: its steps, its losses read without making the device wait, and what is not finite kept out.

On a GPU a step's numbers are read while the next step already runs, so that the device never waits for Python. What is
not finite is kept out of the weights on the device itself: from the first such step on, every update is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from .state import TrainState

if TYPE_CHECKING:
    from .loop import TrainConfig


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


@dataclass(frozen=True)
class _Unread:
    """The numbers of one step, on their way from the device."""

    names: list[str]  # of the losses; the gradient's norm comes after them
    finite: list[bool]  # which of the numbers have to be finite
    numbers: torch.Tensor
    arrived: torch.cuda.Event | None
    random_before: torch.Tensor


@dataclass
class TrainingRun:
    """It is whole after every step: what is read from it is always a completed step, even if the next one has failed in
    its middle. `losses` may lack the last step's on a GPU; `state` and `result` never do."""

    adapter: nn.Module
    config: TrainConfig
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    source: str  # fingerprint of what is learned: latents, condition, tracks
    step: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    lag: int = 0  # steps whose numbers may still be on their way; needs a fused optimiser
    failure: NonFiniteLoss | None = None

    def __post_init__(self):
        self._random = self.generator.get_state()
        self._unread: list[_Unread] = []
        self._bad: torch.Tensor | None = None

    def restore(self, state: TrainState) -> None:
        """Continue from `state`; see `TrainState.restore`."""
        self.step, self.losses = state.restore(self.adapter, self.optimizer, self.generator)
        self._random = self.generator.get_state()

    def complete(self, terms: dict[str, torch.Tensor], norm: torch.Tensor) -> dict[str, float]:
        """Let the optimiser take its step, unless a loss or the gradient's norm is not finite.

        Returns: the newest losses known. Raises: NonFiniteLoss.
        """
        numbers = torch.stack([value.detach().float().to(norm.device) for value in (*terms.values(), norm)])
        finite = [value.requires_grad for value in terms.values()] + [True]
        host, arrived = _on_its_way(numbers)
        self._unread.append(_Unread(list(terms), finite, host, arrived, self._random))
        lag = self.lag if self.losses else 0
        if lag:
            bad = ~torch.isfinite(torch.stack([n for n, must in zip(numbers, finite, strict=True) if must])).all()
            self._bad = bad if self._bad is None else self._bad | bad
            self.optimizer.found_inf = self._bad.float()
        self.step += 1
        self._read(lag)
        if self.failure:
            raise self.failure
        self.optimizer.step()
        self._random = self.generator.get_state()
        return {name: values[-1] for name, values in self.losses.items()}

    def finish(self) -> None:
        """Read what is still on its way. Raises: NonFiniteLoss."""
        self._read(0)
        if self.failure:
            raise self.failure

    def state(self) -> TrainState:
        """A copy of everything that resuming needs."""
        self._read(0)
        settings = {**asdict(self.config), "source": self.source}
        return TrainState.capture(self.adapter, self.optimizer, self._random, self.step, self.losses, settings)

    def result(self) -> TrainResult:
        state = self.state()
        return TrainResult(self.adapter, self.losses, state)

    def again(self, draw: Callable[[torch.Generator], object]) -> None:
        """Draw what the step after the last good one drew; the run stays as it is."""
        generator = torch.Generator()
        generator.set_state(self._random)
        draw(generator)

    def _read(self, lag: int) -> None:
        while len(self._unread) > lag and not self.failure:
            unread = self._unread.pop(0)
            if unread.arrived is not None:
                unread.arrived.synchronize()
            *values, norm = unread.numbers.tolist()
            bad = [n for n, v, must in zip(unread.names, values, unread.finite, strict=False) if must and not _ok(v)]
            if bad or not _ok(norm):
                good = self.step - len(self._unread) - 1
                what = f"the {bad[0]} loss became {values[unread.names.index(bad[0])]}" if bad else None
                self.failure = NonFiniteLoss(
                    f"{what or f'the gradient became {norm}'} at step {good + 1}; the last good step ({good}) is kept. "
                    "Lower the learning rate or train in float32.",
                    self,
                )
                self.step, self._random = good, unread.random_before
                self._unread.clear()
                return
            for name, value in zip(unread.names, values, strict=True):
                self.losses.setdefault(name, []).append(value)


_ok = math.isfinite


def _on_its_way(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """A copy on the CPU that is complete once the event, if there is one, has happened."""
    if numbers.device.type != "cuda":
        return numbers.cpu(), None
    host = torch.empty(numbers.shape, pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return host, arrived

"""A training in progress: its steps, its losses read without making the device wait, and what is not finite kept out.

On a GPU a step's numbers are read while the next step already runs, so that the device never waits for Python. What is
not finite is kept out of the weights on the device itself: from the first such step on, every update is skipped.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from .config import FitConfig
from .state import TrainState


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
class StepNumbers:
    """The losses of one step and its gradient's norm, on their way from the device.

    before: steps before it. random_before: state of the run's generator before it.
    must: the names of those that have to be finite; a term without a gradient may be NaN where it does not apply.
    """

    before: int
    names: list[str]
    must: set[str]
    values: torch.Tensor
    arrived: torch.cuda.Event | None
    random_before: torch.Tensor

    def read(self) -> dict[str, float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


class LossReader:
    """Reads the numbers of steps in their order, up to `lag` steps late, and keeps count of what is not finite.

    Attributes:
        losses: name -> one value a step, of the steps that were read and were finite.
        bad: () bool on the device, whether any step so far was not finite; None at a lag of 0.
    """

    def __init__(self, losses: dict[str, list[float]], lag: int):
        self.losses, self.lag = losses, lag
        self.bad: torch.Tensor | None = None
        self._unread: deque[StepNumbers] = deque()
        self._sent = len(losses.get("total", []))

    def send(self, terms: dict[str, torch.Tensor], norm: torch.Tensor, random_before: torch.Tensor) -> None:
        """Begin to read a step's numbers."""
        numbers = torch.stack([value.detach().float().to(norm.device) for value in (*terms.values(), norm)])
        must = [value.requires_grad for value in terms.values()] + [True]
        names = [*terms, "gradient"]
        host, arrived = _on_its_way(numbers)
        needed = {name for name, has_to in zip(names, must, strict=True) if has_to}
        self._unread.append(StepNumbers(self._sent, names, needed, host, arrived, random_before))
        self._sent += 1
        if self.lag_now:
            bad = ~torch.isfinite(torch.stack([n for n, has_to in zip(numbers, must, strict=True) if has_to])).all()
            self.bad = bad if self.bad is None else self.bad | bad

    @property
    def lag_now(self) -> int:
        """The first step is read at once, so that there is always something to show."""
        return self.lag if self.losses else 0

    def read(self, lag: int = 0) -> BadStep | None:
        """Read all but the newest `lag` steps; gives the first one that is not finite, after which nothing is read.

        A read that was stopped, by Ctrl-C while it waited for the device, can be done again: nothing is lost.
        """
        while len(self._unread) > lag:
            step = self._unread[0]
            values = step.read()
            norm = values.pop("gradient")
            wrong = [name for name in values if name in step.must and not math.isfinite(values[name])]
            if wrong or not math.isfinite(norm):
                self._unread.clear()
                what = f"the {wrong[0]} loss became {values[wrong[0]]}" if wrong else f"the gradient became {norm}"
                return BadStep(what, step.before, step.random_before)
            for name, value in values.items():
                self.losses.setdefault(name, [])[step.before :] = [value]
            self._unread.popleft()
        return None


@dataclass(frozen=True)
class BadStep:
    """A step that was not finite: what became what, how many steps came before it, the generator before it."""

    what: str
    before: int
    random_before: torch.Tensor


@dataclass
class TrainingRun:
    """It is whole after every step: what is read from it is always a completed step, even if the next one has failed in
    its middle. On a GPU `losses` may lack the last step's, or have those of a step that was stopped before the
    optimiser's; `state` and `result` have one a step.

    Attributes:
        adapter: as the last step left it; `learned` is what is to be used.
        average: of its parameters over the steps, by name; empty where the configuration asks for none.
    """

    adapter: nn.Module
    config: FitConfig
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    learns_from: str  # `fingerprint` of it
    step: int = 0
    lag: int = 0  # steps whose numbers may still be on their way; needs a fused optimiser
    failure: NonFiniteLoss | None = None
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    reader: LossReader = field(init=False)

    def __post_init__(self):
        self._random = self.generator.get_state()
        self.reader = LossReader({}, self.lag)

    @property
    def losses(self) -> dict[str, list[float]]:
        return self.reader.losses

    def restore(self, state: TrainState) -> None:
        """Continue from `state`; see `TrainState.restore`."""
        self.step, losses = state.restore(self.adapter, self.optimizer, self.generator)
        own = dict(self.adapter.named_parameters())
        self.average = {name: p.clone().to(own[name]) for name, p in state.average.items()}
        self.reader = LossReader(losses, self.lag)
        self._random = self.generator.get_state()

    def complete(self, terms: dict[str, torch.Tensor], norm: torch.Tensor) -> dict[str, float]:
        """Let the optimiser take its step, unless a loss or the gradient's norm is not finite.

        Returns: the newest losses known. Raises: NonFiniteLoss.
        """
        self._raise_failure()  # a `state` asked for since the last step may have met it, and does not raise
        lag = self.reader.lag_now
        self.reader.send(terms, norm, self._random)
        if lag:
            self.optimizer.found_inf = self.reader.bad.float()
        self._read(lag)
        self._raise_failure()
        self.optimizer.step()
        self._follow()
        self.step, self._random = self.step + 1, self.generator.get_state()
        return {name: values[-1] for name, values in self.losses.items()}

    def finish(self) -> None:
        """Read what is still on its way. Raises: NonFiniteLoss."""
        self._read()
        self._raise_failure()

    def state(self) -> TrainState:
        """A copy of everything that resuming needs."""
        self._read()
        settings = {**asdict(self.config), "source": self.learns_from}
        losses = {name: values[: self.step] for name, values in self.losses.items()}
        return TrainState.capture(self.adapter, self.optimizer, self._random, self.step, losses, settings, self.average)

    @property
    def learned(self) -> nn.Module:
        """The adapter to use: itself, or a copy with the average of its weights."""
        if not self.average:
            return self.adapter
        averaged = copy.deepcopy(self.adapter)
        with torch.no_grad():
            for name, parameter in averaged.named_parameters():
                parameter.copy_(self.average.get(name, parameter))
        return averaged

    def result(self) -> TrainResult:
        state = self.state()
        return TrainResult(self.learned, state.losses, state)

    def draw_again(self, draw: Callable[[torch.Generator], object]) -> None:
        """Draw what the step after the last good one drew; the run stays as it is."""
        generator = torch.Generator()
        generator.set_state(self._random)
        draw(generator)

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average take in the weights of the step, unless it was not finite."""
        if not self.config.average:
            return
        share = torch.tensor(1 - self.config.average)
        if self.reader.bad is not None:
            share = share.to(self.reader.bad.device) * ~self.reader.bad
        for name, parameter in self.adapter.named_parameters():
            if parameter.requires_grad and name in self.average:
                self.average[name].lerp_(parameter, share)
            elif parameter.requires_grad:
                self.average[name] = parameter.detach().clone()

    def _read(self, lag: int = 0) -> None:
        if self.failure is None and (bad := self.reader.read(lag)) is not None:
            self.failure = NonFiniteLoss(
                f"{bad.what} at step {bad.before + 1}; the last good step ({bad.before}) is kept. "
                "A lower learning rate may help.",
                self,
            )
            self.step, self._random = bad.before, bad.random_before

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def _on_its_way(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """A copy on the CPU that is complete once the event, if there is one, has happened."""
    if numbers.device.type != "cuda":
        return numbers.cpu(), None
    host = torch.empty(numbers.shape, pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return host, arrived

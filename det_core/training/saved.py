"""A run that is kept on the disk while it trains, for the command line, the nodes and the benchmark."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from torch import nn

from ..files import remove_leftovers
from .config import FitConfig
from .loop import OnStep, check_resumable
from .run import TrainingRun
from .state import SUFFIX, TrainState

log = logging.getLogger(__name__)

Beside = Callable[[nn.Module, dict[str, list[float]], FitConfig], None]  # (adapter, losses, config)


class Saving:
    """The `on_step` of a training, and a context around it: keeps the training's state in a file.

        with Saving(path, 100, on_step=show) as saving:
            result = train_motion_adapter(..., on_step=saving, resume=earlier)

    The state is written every so many steps, once more at the end, and at the last completed step when the training is
    stopped by anything (Cancel, Ctrl-C, a NaN, an error of `on_step`), which then goes its way. A write that fails, as
    on a full disk, is a warning and not the end of the training: the file of the write before stays whole.

    Attributes:
        run: the run in progress, None before its first completed step.
        kept: the step that is on the disk, what is beside it included; None where none of this training is.
    """

    def __init__(
        self,
        path: Path,
        every: int,
        *,
        on_step: OnStep | None = None,
        beside: Beside | None = None,
        go_on: str = "resume it to go on",
    ):
        """every: steps between two writes. on_step: called after each step. beside: writes what else shall be kept of
        a run that is unfinished or stopped, after its state; where it fails, that is a warning. go_on: how the user
        goes on after a stop.
        """
        self.path, self.every, self.on_step, self.beside = Path(path), every, on_step, beside
        self.go_on = go_on
        self.run: TrainingRun | None = None
        self.kept: int | None = None

    def __call__(self, run: TrainingRun, losses: dict[str, float]) -> None:
        self.run = run
        if run.step % self.every == 0 and run.step < run.config.steps:
            self.keep()
        if self.on_step is not None:
            self.on_step(run, losses)

    def __enter__(self) -> Saving:
        remove_leftovers(self.path)  # a run that was killed after its last write writes no more
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.keep(stopped=kind is not None) and kind is not None:
            log.warning("stopped after step %d of %d; saved: %s", self.kept, self.run.config.steps, self.go_on)

    def keep(self, stopped: bool = False) -> bool:
        """Write the last completed step, unless it is on the disk; whether it is there now.

        What is beside the last step of a training is the caller's to write, but where `stopped` keeps it from that.
        """
        if self.run is None:
            return False
        if self.run.step == self.kept:
            return True
        try:
            state = self.run.state()
            state.save(self.path)
        except OSError as error:
            log.warning("step %d is not kept: %s", self.run.step, _line(error))
            return False
        if stopped or state.step < self.run.config.steps:
            self._write_beside(state)
        self.kept = state.step  # not earlier: a stop in the middle of the two writes both again
        return True

    def _write_beside(self, state: TrainState) -> None:
        if self.beside is None:
            return
        try:
            self.beside(self.run.learned, state.losses, self.run.config)
        except (OSError, RuntimeError) as error:  # RuntimeError: a device without room for the average of the weights
            log.warning("the adapter of step %d is not written: %s", state.step, _line(error))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def earlier_state(path: Path, config: FitConfig, learns_from: str) -> TrainState | None:
    """The state to go on from: the one in `path` (`state_path`), None where nothing of this name is saved.

    Raises: ValueError if it is damaged, has other settings, or if all that is saved learned from something else.
    """
    plain = path.with_name(path.name.replace(f".{learns_from}{SUFFIX}", SUFFIX))
    found = next((file for file in (path, plain) if file.exists()), None)
    if found is None:
        return None
    state = TrainState.load(found)
    check_resumable(state, config, learns_from)
    return state

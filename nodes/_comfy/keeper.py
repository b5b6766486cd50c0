"""What a training node does after every step: show it, sample now and then, and keep the last step on the disk."""

from __future__ import annotations

import logging
from pathlib import Path

from ...det_core.training.loop import TrainingRun, TrainResult
from .preview import Sampler, TrainingView

logger = logging.getLogger(__name__)

SAVE_EVERY = 50  # steps between two writes of the training state


class Keeper:
    """Called after every step: shows progress, takes samples, writes the state now and then.

    As a context it writes the last completed step when the training inside is stopped by anything.
    """

    def __init__(
        self, state_file: Path, view: TrainingView, sampler: Sampler | None, sample_every: int, *, offset: int = 0
    ):
        """offset: steps of earlier trainings that the same view has shown."""
        self.state_file, self.view, self.offset = state_file, view, offset
        self.sampler, self.sample_every = sampler, sample_every
        self.run: TrainingRun | None = None
        self.saved = -1

    def __call__(self, run: TrainingRun, losses: dict[str, float]) -> None:
        self.run = run
        if run.step % SAVE_EVERY == 0:
            self.keep()
        if self.sampler is not None and run.step % self.sample_every == 0:
            self.view.sheet = self.sampler.sheet(run.adapter, f"after step {run.step}")
        self.view.update(self.offset + run.step, run.losses)

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:  # Cancel among others
            self.keep()

    def keep(self) -> None:
        """Write the last completed step, if it is not on the disk yet."""
        if self.run is not None and self.run.step != self.saved:
            self.run.state().save(self.state_file)
            self.saved = self.run.step
            if self.run.step < self.run.config.steps:
                logger.info("training state of step %d kept in %s", self.run.step, self.state_file)

    def run_done(self, result: TrainResult) -> None:
        if self.saved != result.state.step:
            result.state.save(self.state_file)

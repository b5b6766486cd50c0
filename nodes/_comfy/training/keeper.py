"""What a training node does after every step: show it, sample now and then, and keep the last step on the disk."""

from __future__ import annotations

from ....det_core.training.run import TrainingRun
from ....det_core.training.saved import Saving
from ..display.preview import TrainingView
from .runs import SavedRun
from .sampler import Sampler

SAVE_EVERY = 50  # steps between two writes of the training state
NOT_KEPT = "could not be kept (see the log): save what it gives now"
GO_ON = "Run goes on from here (with resume auto)"


class Keeper(Saving):
    """A `Saving` that shows the steps on the node, samples now and then, and says there what a stop has kept."""

    def __init__(
        self, run: SavedRun, view: TrainingView, sampler: Sampler | None, sample_every: int, *, offset: int = 0
    ):
        """offset: steps of earlier stages that the same view has shown."""
        super().__init__(run.file, SAVE_EVERY, on_step=self._show, go_on=GO_ON)
        self.saved, self.view, self.offset = run, view, offset
        self.sampler, self.sample_every = sampler, sample_every

    def __enter__(self) -> Keeper:
        rows = self.sampler.before() if self.sampler is not None else []
        done = self.saved.state.step if self.saved.state else 0
        self.view.begin(rows, self.offset + done, self.offset + self.saved.steps)
        return self

    def __exit__(self, kind, error, trace) -> None:
        super().__exit__(kind, error, trace)
        if kind is not None and self.kept is not None:
            self.view.say(f"stopped at step {self.offset + self.kept} of {self.view.total}, kept; {GO_ON}")

    @property
    def where(self) -> str:
        """Where a finished training is, in words."""
        whole = self.run is not None and self.kept == self.run.config.steps
        return f"kept as {self.path.name}" if whole else NOT_KEPT

    def _show(self, run: TrainingRun, losses: dict[str, float]) -> None:
        if self.sampler is not None and run.step % self.sample_every == 0:
            self.view.rows = [*self.view.rows[:2], (f"step {run.step}", self.sampler.frames(run.learned))]
        self.view.update(self.offset + run.step, run.losses)

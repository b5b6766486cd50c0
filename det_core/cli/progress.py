"""Progress in a terminal, and Ctrl-C that loses nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping

from tqdm import tqdm

from ..training.run import TrainingRun


class Stopped(Exception):
    """The user asked to stop, and the training step that was running is complete; `main.py` ends with exit code 130."""


class Progress:
    """Bars with the time left, as a context around a job.

    While it trains, Ctrl-C and SIGTERM let the running step finish and raise `Stopped` after it; a second one, or one
    at any other time, stops at once: everything made by then is on the disk.
    """

    def __init__(self):
        self._bar: tqdm | None = None
        self._training = self._asked = False
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Progress:
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error) -> None:
        self._close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def training(self, run: TrainingRun, losses: Mapping[str, float]) -> None:
        """`on_step` of a training."""
        total = run.config.steps
        self._training = run.step < total
        self._show("training", run.step, total)
        known = {name: f"{value:.4f}" for name, value in losses.items() if value == value}
        self._bar.set_postfix(known, refresh=False)
        if self._asked:
            raise Stopped

    def sampling(self, done: int, total: int) -> None:
        """`on_step` of `generate`."""
        self._training = False
        self._show("sampling", done, total)

    def _show(self, what: str, done: int, total: int) -> None:
        if self._bar is None or self._bar.desc != what or done < self._bar.n:
            self._close()
            self._bar = tqdm(desc=what, initial=done - 1, total=total, unit="step", file=sys.stderr)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _stop(self, *_signal) -> None:
        if self._asked or not self._training:
            raise KeyboardInterrupt
        self._asked = True

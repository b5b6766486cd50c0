"""Run the study: one unit is one training on one source motion, one JSON file with the scores of all its rows.

Any number of processes may work in one folder: each takes the first unit that is neither done nor being done.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from study_rows import BASE, TRAININGS, rows_of
from study_source import FAMILIES, Plan, Unit, write

from det_core.models.embedded.base_model import EmbeddedModel

log = logging.getLogger("study")


def unit_path(out: Path, training: str, index: int) -> Path:
    slug = "".join(c if c.isalnum() else "-" for c in training)
    return out / f"{slug}-{FAMILIES[index]}.json"


def is_done(path: Path, training: str) -> bool:
    """Whether this unit is there, with every row that the table has today."""
    if not path.exists():
        return False
    wanted = {BASE} if training == BASE else {row.name for row in rows_of(training)}
    return wanted <= json.loads(path.read_text())["rows"].keys()


def open_units(trainings: list[str], plan: Plan, out: Path) -> Iterator[tuple[str, int]]:
    """Units that are not done, each claimed until the next is asked for; a killed process leaves no claim behind.

    A whole training over all motions comes before the next one, so that a stopped study has whole rows.
    """
    for training in (BASE, *trainings):
        for index in range(plan.motions):
            path = unit_path(out, training, index)
            with _claim(path) as mine:
                if mine and not is_done(path, training):
                    yield training, index


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """A lock beside the unit's file; False inside if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def work(trainings: list[str], plan: Plan, out: Path) -> None:
    """Do open units until there are none, in one thread."""
    torch.set_num_threads(1)
    model = EmbeddedModel()
    for training, index in open_units(trainings, plan, out):
        started = time.monotonic()
        write(unit_path(out, training, index), run_unit(Unit(model, index, plan), training))
        log.info("%s, %s: %.0f s", training, FAMILIES[index], time.monotonic() - started)


def run_unit(unit: Unit, training: str) -> dict:
    """Train once, then sample and score every row of it. `train_seconds` is CPU time."""
    if training == BASE:
        return {"rows": {BASE: unit.scored(nullcontext())}, "parameters": 0, "train_seconds": 0.0}
    started = time.process_time()
    trained = TRAININGS[training](unit)
    seconds = time.process_time() - started
    return {
        "rows": {row.name: unit.scored(trained.apply(row.how)) for row in rows_of(training)},
        "parameters": trained.parameters,
        "train_seconds": seconds,
    }

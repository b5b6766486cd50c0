"""One unit of a benchmark: a (case, method, prompt, seed), where its result lies, and how it is written and read.

A unit is done when its result.json is there. The video and the tracks are written before it, each atomically, so that a
run killed at any moment leaves whole units and nothing else that counts.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..files import slug, write_json
from ..tracking.tracks import Tracks
from .layout import Case

log = logging.getLogger(__name__)

BASE = "none"  # the method that every gain and every leakage refers to: the model without adapter


@dataclass(frozen=True)
class Outcome:
    """What a method made of one unit.

    Attributes:
        scores: metric -> value, None where not measured. The report knows the metrics of `tables.METRICS`; leakage and
            diversity are made of source_similarity and `look`.
        cost:   train_s, sample_s (seconds), peak_mb.
        frames: (T, H, W, 3) float in [0, 1] or uint8, for the report; None keeps no video.
        tracks: tracks of the frames, drawn in the report.
        look:   (D,) feature of the whole video, for the diversity over seeds.
    """

    scores: dict[str, float | None]
    cost: dict[str, float] = field(default_factory=dict)
    frames: torch.Tensor | None = None
    fps: float = 8.0
    tracks: Tracks | None = None
    look: torch.Tensor | None = None


@dataclass(frozen=True)
class Unit:
    case: Case
    method: str
    prompt: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where the unit's files lie below the run's folder."""
        return out / "units" / self.case.name / slug(self.method) / f"{slug(self.prompt)}-seed{self.seed}"

    def is_done(self, out: Path) -> bool:
        return (self.folder(out) / "result.json").is_file()


RunUnit = Callable[[Unit], Outcome]
Group = tuple[Unit, ...]  # the units that share one trained adapter, as a rule: same case, method and seed


def plan(cases: Sequence[Case], methods: Sequence[str], seeds: Sequence[int]) -> list[Group]:
    """All units, those that share an adapter together; one group is never split over two workers.

    The model without adapter comes first in each case.
    """
    ordered = sorted(methods, key=lambda method: method != BASE)
    return [
        tuple(Unit(case, method, prompt, seed) for prompt in case.prompts)
        for case in cases
        for method in ordered
        for seed in seeds
    ]


def write_outcome(unit: Unit, outcome: Outcome, out: Path, seconds: float) -> None:
    """Store a unit; the result, last, makes it count."""
    from ..media.video import write_video

    folder = unit.folder(out)
    if outcome.frames is not None:
        write_video(folder / "video.mp4", outcome.frames, outcome.fps)
    if outcome.tracks is not None:
        outcome.tracks.save(folder / "tracks.safetensors")
    result = {
        "case": unit.case.name,
        "method": unit.method,
        "prompt": unit.prompt,
        "seed": unit.seed,
        "difficulty": unit.case.difficulty,
        "scores": {name: _finite(value) for name, value in outcome.scores.items()},
        "cost": {**{name: _finite(value) for name, value in outcome.cost.items()}, "unit_s": round(seconds, 3)},
        "look": None if outcome.look is None else [round(float(x), 6) for x in outcome.look],
    }
    write_json(folder / "result.json", result)
    (folder / "error.json").unlink(missing_ok=True)


def write_error(unit: Unit, error: BaseException, out: Path) -> None:
    """Note why a unit failed; it is tried again in the next run."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    write_json(unit.folder(out) / "error.json", {"reason": reason})


def read_results(groups: Sequence[Group], out: Path) -> tuple[list[dict], list[dict]]:
    """Results of all finished units in the plan's order, and {case, method, prompt, seed, reason} of the others."""
    results, failed = [], []
    for unit in (unit for group in groups for unit in group):
        if unit.is_done(out):
            results.append(json.loads((unit.folder(out) / "result.json").read_text(encoding="utf-8")))
            continue
        note = unit.folder(out) / "error.json"
        reason = json.loads(note.read_text(encoding="utf-8"))["reason"] if note.is_file() else "not run yet"
        failed.append(
            {"case": unit.case.name, "method": unit.method, "prompt": unit.prompt, "seed": unit.seed, "reason": reason}
        )
    return results, failed


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def run_group(group: Group, out: Path, run_unit: RunUnit) -> int:
    """Run the unfinished units of a group; returns how many were run. A unit that fails is noted and passed over."""
    done = 0
    for unit in group:
        if unit.is_done(out):
            continue
        started = time.monotonic()
        try:
            outcome = run_unit(unit)
        except Exception as error:  # one bad unit out of days of work must not end the run
            log.exception("%s, %s, seed %d failed", unit.case.name, unit.method, unit.seed)
            write_error(unit, error, out)
            continue
        write_outcome(unit, outcome, out, time.monotonic() - started)
        done += 1
    return done


_run_unit: dict[str, RunUnit] = {}  # by run: what `build` made in this worker process; a model is loaded once


def work(group: Group, out: str, build: Callable[[], RunUnit]) -> int:
    """`run_group` in a worker process, which makes what runs units once."""
    if out not in _run_unit:
        _run_unit.clear()
        _run_unit[out] = build()
    return run_group(group, Path(out), _run_unit[out])

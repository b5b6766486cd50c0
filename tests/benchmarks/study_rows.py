"""The rows of the study, in the order of what matters most. Rows of one training share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from study_candidates import CANDIDATES as CHEAP
from study_cases import SETS, StudyCase
from study_methods import (
    Train,
    beside,
    conv3d,
    det,
    follow_your_motion,
    full,
    guided,
    local_attention,
    lora,
    motion_inversion,
    nothing,
    rival,
    whole,
)

from det_core.bench.guided import GUIDED
from det_core.bench.units import Group, Unit

BASE, PAPER, LONG, TUNED, FYM = "no adapter", "DeT", "DeT, 200 steps", "DeT, lr 0.03", "FYM"
FAST, ALL, ADVISED = "DeT `fast`", ("last", 0.0), ("last", 0.65)
FEWER_STEPS = {"steps": 50, "lr": 1.5e-2, "warmup": 5}  # all rows let the learning rate fall linearly to zero


@dataclass(frozen=True)
class Row:
    """name: unique; group: the table it stands in; training: key of TRAININGS; how: what its `Trained.apply` takes;
    draws: training seeds; seeds: of sampling, None for all that the plan has."""

    name: str
    group: str
    training: str
    how: Any = None
    draws: int = 1
    seeds: int | None = None

    def method(self, draw: int) -> str:
        """What the units of one training seed are called."""
        return f"{self.name}, training seed {draw}" if draw else self.name


TRAININGS: dict[str, Train] = {
    "nothing": nothing,
    "det": partial(beside, make=det),
    "no tracking": partial(beside, make=det, tracking_weight=0.0),
    "tracking 0.01": partial(beside, make=det, tracking_weight=0.01),
    "steps 50": partial(beside, make=det, steps=50),
    "steps 200": partial(beside, make=det, steps=200),
    "det lr 0.03": partial(beside, make=det, lr=3e-2),
    "lora": partial(whole, make=lora, lr=3e-2),
    "conv3d": partial(beside, make=conv3d, lr=3e-2),
    "motion inversion": partial(whole, make=motion_inversion, lr=3e-2),
    # as far as DeT's two convolutions see
    "local attention": partial(beside, make=partial(local_attention, window=(5, 1, 1))),
    "full": partial(whole, make=full, lr=1e-3),
    "50 steps, higher lr": partial(beside, make=det, **FEWER_STEPS),
    "noisy timesteps": partial(beside, make=det, timestep_power=0.6),
    "fixed down": partial(beside, make=det, train_down=False),
    "size 0.75": partial(beside, make=det, scale=0.75),
    "size 0.5": partial(beside, make=det, scale=0.5),
    "windows": partial(beside, make=det, frame_window=5),
    "fast 0.5": partial(beside, make=det, steps=200, timestep_power=0.6, scale=0.5),
    "fast 0.75": partial(beside, make=det, steps=200, timestep_power=0.6, scale=0.75),
    "kernel 5": partial(beside, make=partial(det, kernel_size=5)),
    "kernel 7": partial(beside, make=partial(det, kernel_size=7)),
    "width 16": partial(beside, make=partial(det, mid_dim=16)),
    "width 64": partial(beside, make=partial(det, mid_dim=64)),
    "fym": follow_your_motion,
    "fym all frames, half the draws": partial(follow_your_motion, frames=9, batch=2),
    "fym 3 even frames": partial(follow_your_motion, frames=3, spacing="stride", batch=7),
    "fym all frames": partial(follow_your_motion, frames=9),
    "fym without adaptive positions": partial(follow_your_motion, adaptive=False),
    "fym without decoupling": partial(follow_your_motion, decoupled=False),
    "fym motion loss code": partial(follow_your_motion, motion_loss="code", motion_weight=1.0),
    **{name: partial(guided, loss=loss) for name, loss in GUIDED.items()},
    "guided, masked": partial(guided, masked=True),
    **CHEAP,
    **{name: partial(rival, method=name) for name in ("dreambooth", "motiondirector", "sma")},
}

ROWS = (
    Row(PAPER, "form", "det", ADVISED),
    Row("DeT, last 0% dropped", "dropped", "det", ("last", 0.0)),
    Row("DeT, last 35% dropped", "dropped", "det", ("last", 0.35)),
    Row("DeT, last 55% dropped", "dropped", "det", ("last", 0.55)),
    Row("DeT, last 75% dropped", "dropped", "det", ("last", 0.75)),
    Row("DeT, first 35% dropped", "dropped", "det", ("first", 0.35)),
    Row("DeT, first 65% dropped", "dropped", "det", ("first", 0.65)),
    Row("DeT, tracking weight 0", "tracking", "no tracking", ADVISED),
    Row("DeT, tracking weight 0.01", "tracking", "tracking 0.01", ADVISED),
    Row("DeT, 50 steps", "steps", "steps 50", ADVISED),
    Row(LONG, "steps", "steps 200", ADVISED),
    Row(TUNED, "form", "det lr 0.03", ADVISED),
    Row("LoRA", "form", "lora"),
    Row("Conv3D", "form", "conv3d", ADVISED),
    Row("MotionInversion", "form", "motion inversion"),
    Row("local attention", "form", "local attention", ADVISED),
    Row("full fine-tuning", "form", "full"),
    Row("DeT, kernel size 5", "kernel", "kernel 5", ADVISED),
    Row("DeT, kernel size 7", "kernel", "kernel 7", ADVISED),
    Row("DeT, width 16", "width", "width 16", ADVISED),
    Row("DeT, width 64", "width", "width 64", ADVISED),
    Row("DeT, 50 steps, lr 0.015, 5 of warm-up", "cheaper", "50 steps, higher lr", ADVISED),
    Row("DeT, t = 1000 u^0.6", "cheaper", "noisy timesteps", ADVISED),
    Row("DeT, down projection fixed", "cheaper", "fixed down", ADVISED),
    Row("DeT, trained at 0.75 of the size", "cheaper", "size 0.75", ADVISED),
    Row("DeT, trained at 0.5 of the size", "cheaper", "size 0.5", ADVISED),
    Row("DeT, windows of 5 of 9 frames", "cheaper", "windows", ADVISED),
    Row("DeT, 200 steps at 0.5 of the size, t = 1000 u^0.6", "fast", "fast 0.5", ADVISED),
    Row("DeT, 200 steps at 0.75 of the size, t = 1000 u^0.6", "fast", "fast 0.75", ADVISED),
    Row(FYM, "fym", "fym", (0.0, 1.0)),
    Row("FYM, spatial 0.5", "fym", "fym", (0.5, 1.0)),
    Row("FYM, spatial 1", "fym", "fym", (1.0, 1.0)),
    Row("FYM, temporal 0.5", "fym", "fym", (0.0, 0.5)),
    Row("FYM without decoupling", "fym", "fym without decoupling", (0.0, 1.0)),
    Row("FYM without adaptive positions", "fym", "fym without adaptive positions", (0.0, 1.0)),
    Row("FYM, all frames, same time", "fym", "fym all frames, half the draws", (0.0, 1.0)),
    Row("FYM, all frames, as many draws", "fym", "fym all frames", (0.0, 1.0)),
    Row("FYM, 3 even frames, same time", "fym", "fym 3 even frames", (0.0, 1.0)),
    Row("FYM, motion loss of the released code", "fym", "fym motion loss code", (0.0, 1.0)),
)
# On motions that nothing was tuned on. The methods of others are as ported to DiTs (docs/measured/benchmark.md).
UNTUNED = (
    Row("guidance (no training)", "untuned", "guided"),
    Row(FAST, "untuned", "fast", ALL, draws=3),
    Row("DeT, 200 steps", "untuned", "steps 200", ADVISED, draws=3),
    Row("DiTFlow", "untuned", "ditflow", seeds=1),
    Row("MOFT", "untuned", "moft", seeds=1),
    Row("MotionClone", "untuned", "motionclone", seeds=1),
    Row("FlowMotion", "untuned", "flowmotion", seeds=1),
    Row("DMT", "untuned", "dmt", seeds=1),
    Row("guidance where the subject passes", "untuned", "guided, masked"),
    Row("DreamBooth", "untuned", "dreambooth", seeds=1),
    Row("MotionDirector", "untuned", "motiondirector", seeds=1),
    Row("SMA", "untuned", "sma", seeds=1),
    Row("DeT, 100 steps", "untuned", "det", ADVISED, draws=3),
    Row("LoRA, 100 steps", "untuned", "lora"),
    Row("Follow-Your-Motion", "untuned", "fym", (0.0, 1.0)),
)
# What `fast` was chosen among, on other clips of the study's motions.
CANDIDATES = (
    Row(FAST, "candidates", "fast", ALL),
    Row("the last 25% dropped", "candidates", "fast", ("last", 0.25)),
    Row("the last 55% dropped", "candidates", "fast", ("last", 0.55)),
    Row("the last 65% dropped", "candidates", "fast", ADVISED),
    Row("lr 0.014", "candidates", "fast, lr 0.014", ALL),
    Row("lr 0.01", "candidates", "fast, lr 0.01", ALL),
    Row("kernels in the 3 kept blocks only", "candidates", "kernels in 3", ADVISED),
    Row("last weights", "candidates", "fast, last weights", ALL),
    Row("last weights, the last 25% dropped", "candidates", "fast, last weights", ("last", 0.25)),
    Row("last weights, the last 65% dropped", "candidates", "fast, last weights", ADVISED),
    Row("last weights, lr 0.014", "candidates", "last weights, lr 0.014", ALL),
    Row("last weights, lr 0.01", "candidates", "last weights, lr 0.01", ALL),
    Row("last weights, kernel 5, lr 0.01", "candidates", "last weights, kernel 5", ALL),
    Row("last weights, 0.75 of the size", "candidates", "last weights, size 0.75", ALL, seeds=1),
    Row("last weights, crops of 6x6 of 8x8 cells", "candidates", "crops", ALL, seeds=1),
    Row(
        "last weights, kernels in the 3 kept blocks only", "candidates", "last weights, kernels in 3", ADVISED, seeds=1
    ),
    Row("last weights, kernels start along guidance's gradient", "candidates", "from guidance", ALL, seeds=1),
    Row("guidance's loss, kernels up to its block", "candidates", "by features", ("last", 0.55), seeds=1),
    Row("the same, noisy times", "candidates", "by features, noisy", ("last", 0.55), seeds=1),
)

TITLES = {
    "form": "Form of the adapter, about as many parameters each",
    "dropped": "Share of the blocks without adapter when sampling",
    "tracking": "Weight of the tracking loss",
    "steps": "Training steps",
    "kernel": "Kernel size",
    "width": "Width of the kernels' middle",
    "cheaper": "Cheaper training, one option at a time",
    "fast": "Cheaper training, options together, against twice the steps",
    "fym": "Follow-Your-Motion",
    "untuned": "On motions that nothing was tuned on",
    "candidates": "What `fast` was chosen among",
}
GROUPS = tuple(group for group in TITLES if group not in ("untuned", "candidates"))
# What a table's gains are on, beside the model without adapter; otherwise DeT.
REFERENCES = {"form": TUNED, "fast": LONG, "fym": FYM, "untuned": BASE, "candidates": FAST}


@dataclass(frozen=True)
class Plan:
    """How much is done. Units of different plans lie in different folders.

    motions: how many of the set of that name in SETS, by default all. seeds: of sampling. steps: of training, where a
    row does not say otherwise.
    """

    name: str
    set: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    motions: int = 0
    steps: int = 100

    @classmethod
    def study(cls, groups: tuple[str, ...] = GROUPS) -> Plan:
        """The rows of some tables, and of what their gains are on."""
        wanted = set(groups)
        references = {REFERENCES.get(group, PAPER) for group in wanted}
        rows = tuple(row for row in ROWS if row.group in wanted or row.name in references)
        return cls("full", "study", rows, (100, 101, 102))

    @classmethod
    def untuned(cls) -> Plan:
        return cls("untuned", "untuned", UNTUNED, (200, 201, 202))

    @classmethod
    def candidates(cls) -> Plan:
        return cls("candidates", "tuning", CANDIDATES, (300, 301, 302))

    def quick(self) -> Plan:
        """A glance: does it run."""
        return replace(self, name=f"{self.name}-quick", motions=2, seeds=self.seeds[:1], steps=20)

    def cases(self) -> list[StudyCase]:
        count, make = SETS[self.set]
        return [make(index) for index in range(self.motions or count)]

    def units(self, case: StudyCase, row: Row, draw: int) -> tuple[Unit, ...]:
        seeds = self.seeds[: row.seeds]
        return tuple(Unit(case, row.method(draw), prompt, seed) for prompt in case.prompts for seed in seeds)

    def groups(self) -> list[Group]:
        """The units of each training together, those of the first training seed first. A whole training over all
        motions comes before the next one, so that a stopped study has whole rows."""
        rows, cases = (Row(BASE, "", "nothing"), *self.rows), self.cases()
        trainings = dict.fromkeys((draw, row.training) for draw in range(3) for row in rows if draw < row.draws)
        return [
            sum((self.units(case, row, draw) for row in rows if row.training == training and draw < row.draws), ())
            for draw, training in trainings
            for case in cases
        ]

    def by_method(self) -> dict[str, tuple[Row, int]]:
        """What a unit's method stands for: its row and the number of its training seed."""
        rows = (Row(BASE, "", "nothing"), *self.rows)
        return {row.method(draw): (row, draw) for row in rows for draw in range(row.draws)}

"""The rows of the study, in the order of what matters most. Rows of one training share it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from study_methods import (
    Train,
    beside,
    conv3d,
    det,
    follow_your_motion,
    full,
    local_attention,
    lora,
    motion_inversion,
    whole,
)

BASE, PAPER, LONG, TUNED, FYM = "no adapter", "DeT", "DeT, 200 steps", "DeT, lr 0.03", "FYM"
ADVISED = ("last", 0.65)
FEWER_STEPS = {"steps": 50, "lr": 1.5e-2, "warmup": 5}  # all rows let the learning rate fall linearly to zero


@dataclass(frozen=True)
class Row:
    """name: unique; group: the table it stands in; training: key of TRAININGS; how: what its `Trained.apply` takes."""

    name: str
    group: str
    training: str
    how: Any = None


TRAININGS: dict[str, Train] = {
    "det": beside(det),
    "no tracking": beside(det, tracking_weight=0.0),
    "tracking 0.01": beside(det, tracking_weight=0.01),
    "steps 50": beside(det, steps=50),
    "steps 200": beside(det, steps=200),
    "det lr 0.03": beside(det, lr=3e-2),
    "lora": whole(lora, lr=3e-2),
    "conv3d": beside(conv3d, lr=3e-2),
    "motion inversion": whole(motion_inversion, lr=3e-2),
    "local attention": beside(partial(local_attention, window=(5, 1, 1))),  # as far as DeT's two convolutions see
    "full": whole(full, lr=1e-3),
    "50 steps, higher lr": beside(det, **FEWER_STEPS),
    "noisy timesteps": beside(det, timestep_power=0.6),
    "fixed down": beside(det, train_down=False),
    "size 0.75": beside(det, scale=0.75),
    "size 0.5": beside(det, scale=0.5),
    "windows": beside(det, frame_window=5),
    "fast 0.5": beside(det, steps=200, timestep_power=0.6, scale=0.5),
    "fast 0.75": beside(det, steps=200, timestep_power=0.6, scale=0.75),
    "kernel 5": beside(partial(det, kernel_size=5)),
    "kernel 7": beside(partial(det, kernel_size=7)),
    "width 16": beside(partial(det, mid_dim=16)),
    "width 64": beside(partial(det, mid_dim=64)),
    "fym": follow_your_motion(),
    "fym all frames, half the draws": follow_your_motion(frames=9, batch=2),
    "fym 3 even frames": follow_your_motion(frames=3, spacing="stride", batch=7),
    "fym all frames": follow_your_motion(frames=9),
    "fym without adaptive positions": follow_your_motion(adaptive=False),
    "fym without decoupling": follow_your_motion(decoupled=False),
    "fym motion loss code": follow_your_motion(motion_loss="code", motion_weight=1.0),
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
}
GROUPS = tuple(TITLES)
# What a table's gains are on, beside the model without adapter; otherwise DeT.
REFERENCES = {"form": TUNED, "fast": LONG, "fym": FYM}


def trainings_of(groups: tuple[str, ...]) -> list[str]:
    """The trainings of the rows of these groups and of what their gains are on, in the study's order."""
    references = {REFERENCES.get(group, PAPER) for group in groups}
    wanted = {row.training for row in ROWS if row.group in groups or row.name in references}
    return [name for name in TRAININGS if name in wanted]


def rows_of(training: str) -> list[Row]:
    return [row for row in ROWS if row.training == training]

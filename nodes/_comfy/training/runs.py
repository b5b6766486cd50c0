"""Saved runs: which state on the disk belongs to a training, so that nothing is trained twice and nothing is lost.

A state's file is named by the run, by what is learned from and how (a fingerprint) and by the steps asked for:
`my motion.3f9ac01d22b4e871-500.state.safetensors`. Another clip, caption or setting under the same name is another
file.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....det_core.training.config import FitConfig
from ....det_core.training.loop import check_resumable
from ....det_core.training.state import TrainState
from ..loading import paths
from ..sockets.inputs import RESUME
from .fingerprint import fingerprint

logger = logging.getLogger(__name__)

_CHANGES_NOTHING = ("steps", "checkpoint")  # settings that do not make another run
_CAME_LATER = {"average": 0.0}  # settings of runs that know nothing of them, at the value that those were made with


@dataclass(frozen=True)
class SavedRun:
    """file: where this training keeps its state. state: the one to go on from, None to begin."""

    file: Path
    state: TrainState | None
    steps: int

    @property
    def finished(self) -> bool:
        return self.state is not None and self.state.step >= self.steps


def resume_of(value: str | bool) -> str:
    """One of `RESUME`. In workflows of earlier versions it was a switch: off began anew, on had to resume.

    Raises: ValueError for anything else.
    """
    if isinstance(value, bool):
        return "must resume" if value else "start anew"
    if value not in RESUME:
        raise ValueError(f"resume is one of {', '.join(RESUME)}; got {value!r}")
    return value


def resume_is_known(value: str | bool | None) -> bool | str:
    """True, or what is wrong with it: the answer of a node's `validate_inputs`."""
    try:
        return value is None or bool(resume_of(value))
    except ValueError as error:
        return str(error)


def saved_run(name: str, resume: str | bool, config: FitConfig, source: str, stage: str = "") -> SavedRun:
    """The saved run of a training, which is `name`d, learns from `source` (a fingerprint) and is set as in `config`.

    stage: of a training that has several. The state is the one of the same steps, or else the longest shorter one,
    unless the learning rate falls over its steps.
    Raises: ValueError if it must resume and cannot; the message says what differs from the run that is there.
    """
    resume = resume_of(resume)
    settings = {k: v for k, v in told(config).items() if k not in _CHANGES_NOTHING}
    named = f"{paths.safe_name(name)}.{stage}" if stage else paths.safe_name(name)
    stem = f"{named}.{fingerprint(source, type(config).__name__, settings)}"
    file = paths.state_path(f"{stem}-{config.steps}")
    if resume == "start anew":
        return SavedRun(file, None, config.steps)
    if (state := _readable(file)) is not None:
        return SavedRun(file, state, config.steps)
    if not config.decay:
        earlier = [_readable(path) for path in _files(stem, r"-\d+")]
        shorter = [state for state in earlier if state is not None and state.step <= config.steps]
        if shorter:
            return SavedRun(file, max(shorter, key=lambda state: state.step), config.steps)
    if resume == "must resume":
        return SavedRun(file, _of_earlier_version(name, named, config), config.steps)
    return SavedRun(file, None, config.steps)


def told(config: FitConfig) -> dict[str, Any]:
    """The settings that a run is known by: the same for a run of an earlier version of the pack."""
    return {name: value for name, value in asdict(config).items() if (name, value) not in _CAME_LATER.items()}


def load_weights(adapter: nn.Module, state: TrainState) -> None:
    """Give a fresh adapter the weights of a finished run."""
    learned = state.learned
    with torch.inference_mode(False), torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.copy_(learned[name])


def _of_earlier_version(name: str, named: str, config: FitConfig) -> TrainState:
    """The state that versions without fingerprints kept under this name; whether it learned from the same source shows
    when the training begins. Raises: ValueError if it cannot be continued or there is none."""
    plain = paths.state_path(named)
    others = [plain] if plain.exists() else _files(named, r"\.[0-9a-f]{16}-\d+")
    if not others:
        raise ValueError(f"there is no saved run {name!r} to resume: set resume to auto to start it")
    state = TrainState.load(others[-1])
    check_resumable(state, config)
    if not plain.exists():
        raise ValueError(
            f"cannot resume: the saved run {name!r} learned from something else (another video, caption, tracks, mask "
            "or base model). Set resume to auto to train from this one; the other is kept."
        )
    return state


def _files(stem: str, rest: str) -> list[Path]:
    """States whose name is `stem` and then matches the pattern `rest`, the newest last."""
    folder, _, last = stem.rpartition("/")
    wanted = re.compile(re.escape(last) + rest + re.escape(paths.STATE_SUFFIX))
    found = [path for path in (paths.folder_of(paths.ADAPTERS) / folder).glob("*") if wanted.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _readable(file: Path) -> TrainState | None:
    """The state in a file; None, and a word in the log, where there is none or it is damaged."""
    if not file.exists():
        return None
    try:
        return TrainState.load(file)
    except ValueError as error:
        logger.warning("%s; it is not used", error)
        return None

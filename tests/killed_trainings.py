"""Kill trainings at random moments and go on with them, until so many kills are done; prints what was seen as JSON.

    python tests/killed_trainings.py FOLDER 200

Each training is a process of its own, forked from this one, in which the model is loaded once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_training import random_embedded  # noqa: E402

from det_core.learn import train_on  # noqa: E402
from det_core.models.embedded.demo import DEMO_SCENE, DEMO_SOURCE  # noqa: E402
from det_core.source import SourceFiles, load_source  # noqa: E402
from det_core.training.loop import TrainConfig  # noqa: E402
from det_core.training.state import TrainState  # noqa: E402

STEPS = 8  # the state is written after each


class Trainings:
    def __init__(self) -> None:
        self.model = random_embedded()  # a step takes moments, so that kills meet the writing of states, too
        spec = self.model.denoiser.spec
        self.source = load_source(SourceFiles(DEMO_SOURCE), spec)
        self.config = TrainConfig.for_spec(spec, steps=STEPS, batch=1)

    def start(self, folder: Path) -> int:
        """Begin or go on with the training in `folder`, in a process of its own; returns its number."""
        process = os.fork()
        if process == 0:
            path = folder / "adapter.safetensors"
            train_on(self.model, self.source, DEMO_SCENE.caption, self.config, path, resume=True, save_every=1)
            os._exit(0)
        return process


def state_of(folder: Path) -> TrainState | None:
    found = list(folder.glob("*.state.safetensors"))
    return TrainState.load(found[0]) if found else None


def same(a: TrainState, b: TrainState) -> bool:
    equal = a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    return equal and (a.step, json.dumps(a.losses)) == (b.step, json.dumps(b.losses))


def killed_until_done(trainings: Trainings, folder: Path, seconds: float, moment: random.Random) -> tuple[int, list]:
    """How often one training was killed before it was done, and what went wrong: nothing."""
    kills, faults, step = 0, [], 0
    while True:
        process = trainings.start(folder)
        time.sleep(moment.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)  # of a process that has ended, too: nobody has asked for it yet
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):
            return kills, faults if os.WEXITSTATUS(status) == 0 else [*faults, f"exit {os.WEXITSTATUS(status)}"]
        kills += 1
        state = state_of(folder)  # raises if it cannot be read
        if state is not None and state.step < step:
            faults.append(f"the state went back from step {step} to {state.step}")
        step = step if state is None else state.step


def main(folder: Path, wanted: int, seed: int = 0) -> dict:
    torch.set_num_threads(1)
    trainings, moment = Trainings(), random.Random(seed)
    whole = folder / "whole"
    whole.mkdir(parents=True)
    started = time.monotonic()
    os.waitpid(trainings.start(whole), 0)
    seconds = time.monotonic() - started
    seen = {"kills": 0, "trainings": 0, "faults": [], "left": []}
    while seen["kills"] < wanted:
        run = folder / f"run{seen['trainings']}"
        run.mkdir()
        kills, faults = killed_until_done(trainings, run, seconds, moment)
        if not same(state_of(run), state_of(whole)):
            faults.append("other bits than those of the training that was left alone")
        names = {path.name for path in run.iterdir()}
        seen["left"] += sorted(names - {path.name for path in whole.iterdir()})
        seen["kills"] += kills
        seen["trainings"] += 1
        seen["faults"] += faults
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

"""Kill servers at random moments of their trainings, start them again and go on, until so many kills are done; prints
what was seen as JSON.

    .venv-comfyui/bin/python tests/comfy/killed_servers.py FOLDER 60

Each server is a process of its own, forked from this one, in which the libraries are loaded once.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import runpy
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import torch  # noqa: E402
from checkpoints import save_native, transformer  # noqa: E402
from comfy_server import ComfyServer  # noqa: E402
from conftest import COMFYUI, write_source_video  # noqa: E402
from graphs import SAVE, only, training  # noqa: E402

from det_core.training.state import TrainState  # noqa: E402

LIBRARIES = "torchvision torchaudio transformers diffusers scipy.stats cv2 aiohttp.web sqlalchemy alembic einops"
STEPS = 170  # the state is written after each 50


class Forked:
    """A process as `subprocess.Popen` has it."""

    def __init__(self, command: list[str], folder: Path, log: int):
        self.pid = os.fork()
        self.status: int | None = None
        if self.pid == 0:
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(folder)
            sys.path[:] = [str(folder), *(p for p in sys.path if p not in (str(ROOT), str(Path(__file__).parent)))]
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
            os._exit(0)

    def poll(self) -> int | None:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    terminate = kill


class ForkedServer(ComfyServer):
    def launch(self, command, log):
        return Forked(command[1:], self.comfyui, log.fileno())


def graph(name: str) -> dict:
    """Video, tracks, training, sampling, saving; the run and the adapter are of this name."""
    prompt = training(STEPS, run_name=name)
    only(prompt, SAVE).update(name=name, overwrite=True)
    return prompt


def states_of(folder: Path, name: str) -> list[TrainState]:
    return [TrainState.load(path) for path in folder.glob(f"{name}.*.state.safetensors")]  # raises if it cannot be read


def same(a: TrainState, b: TrainState) -> bool:
    equal = a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    return equal and (a.step, json.dumps(a.losses)) == (b.step, json.dumps(b.losses))


def killed_until_done(server: ForkedServer, name: str, seconds: float, moment: random.Random) -> tuple[int, list[str]]:
    """How often the server was killed before the prompt was done, and what went wrong: nothing."""
    folder, kills, faults, step = server.base / "models" / "det_adapters", 0, [], 0
    while True:
        prompt = server.queue(graph(name))
        with suppress(TimeoutError):
            server.wait(prompt, timeout=moment.uniform(0, seconds))
            return kills, faults
        server.stop(kill=True)
        kills += 1
        reached = max((state.step for state in states_of(folder, name)), default=0)
        if reached < step:
            faults.append(f"{name} went back from step {step} to {reached}")
        step = reached
        server.start()


def main(base: Path, wanted: int, seed: int = 0) -> dict:
    for library in LIBRARIES.split():
        importlib.import_module(library)
    torch.set_num_threads(1)
    moment, server = random.Random(seed), ForkedServer(COMFYUI, ROOT, base)
    save_native("wan", transformer("wan"), base / "models" / "diffusion_models" / "wan2.1_t2v_1.3B_fp16.safetensors")
    write_source_video(base / "input" / "source.mp4")
    folder, seen = base / "models" / "det_adapters", {"kills": 0, "trainings": 0, "faults": [], "left": []}
    try:
        server.start()
        started = time.monotonic()
        server.run(graph("whole"))
        seconds = time.monotonic() - started
        (whole,) = states_of(folder, "whole")
        while seen["kills"] < wanted:
            name = f"run{seen['trainings']}"
            kills, faults = killed_until_done(server, name, seconds, moment)
            states = states_of(folder, name)
            if len(states) != 1 or not same(states[0], whole):
                faults.append(f"{name}: other bits than those of the training that was left alone")
            seen["kills"] += kills
            seen["trainings"] += 1
            seen["faults"] += faults
    finally:
        server.stop(kill=True)
    made = [f"run{i}" for i in range(seen["trainings"])] + ["whole"]
    seen["left"] = sorted(
        path.name
        for path in folder.iterdir()
        if path.name.split(".")[0] not in made or path.name.startswith(".") or path.is_dir()
    )
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

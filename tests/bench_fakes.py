"""Small benchmark cases, and stand-ins for methods whose answers depend on the unit only; workers import it."""

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from det_core.bench.runner import run_bench
from det_core.bench.units import Outcome
from det_core.tracking.tracks import Tracks

METHODS = ["none", "frozen", "lora", "det"]
SKILL = {"none": 0.3, "frozen": 0.35, "lora": 0.8, "det": 0.7}


def draws(*key, count=4):
    digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
    return [digest[i] / 255 for i in range(count)]


def outcome(unit, video=True):
    method = unit.method
    a, b, c, d = draws(unit.case.name, method, unit.prompt, unit.seed)
    points = torch.tensor([[[0.2 + 0.1 * t, 0.5] for t in range(5)]])
    frames = torch.full((5, 16, 16, 3), a)
    frames[:, 4:8, 4:8] = torch.tensor([b, c, d])
    return Outcome(
        scores={
            "motion_fidelity": SKILL.get(method, 0.5) + 0.1 * a,
            "edit_fidelity": 30 - 5 * SKILL.get(method, 0.5) + b,
            "temporal_consistency": None,
            "source_similarity": 0.4 + 0.3 * SKILL.get(method, 0.5) + 0.05 * c,
        },
        cost={"train_s": 10 * SKILL.get(method, 0.5), "sample_s": 1.0, "peak_mb": 100.0},
        frames=frames if video else None,
        tracks=Tracks(points, torch.ones(1, 5, dtype=torch.bool)) if video else None,
        look=torch.tensor([a, b, c, d]) + 0.1,
    )


def build():
    return outcome


class Counting:
    """Notes every call in a file, and works for `seconds`."""

    def __init__(self, journal: Path, seconds: float = 0.0, video: bool = False):
        self.journal, self.seconds, self.video = Path(journal), seconds, video

    def __call__(self):
        return self.run

    def run(self, unit):
        time.sleep(self.seconds)
        made = outcome(unit, self.video)
        with open(self.journal, "a") as file:
            file.write(f"{unit.case.name} {unit.method} {unit.prompt} {unit.seed}\n")
        return made


class Deadly(Counting):
    """Kills its own process, hard, the first time it comes to the given call."""

    def __init__(self, journal: Path, at: tuple, seconds: float = 0.0):
        super().__init__(journal, seconds)
        self.at, self.flag = at, Path(str(journal) + ".died")

    def run(self, unit):
        if (unit.case.name, unit.method, unit.prompt, unit.seed) == self.at and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(unit)


def write_case(folder: Path, *, nested=False, tracks=True, prompts=("a red fox", "a blue car"), frames=5):
    from det_core.media.video import write_video

    name = folder.name
    folder.mkdir(parents=True)
    video = folder / "videos" / f"{name}.mp4" if nested else folder / f"{name}.mp4"
    shade = torch.arange(frames)[:, None, None, None] * 20 + 40
    write_video(video, shade.expand(frames, 16, 16, 3).to(torch.uint8), 8)
    (folder / "prompts.txt").write_text("a dog runs\n")
    (folder / "eval_prompts.txt").write_text("".join(f" {p} \n" for p in prompts))
    masks = folder / "masks" / name if nested else folder / "masks"
    masks.mkdir(parents=True)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:10, 4:10] = 255
    Image.fromarray(np.kron(mask, np.ones((16, 16), np.uint8))).save(masks / "00000.png")
    if tracks:
        g = torch.Generator().manual_seed(len(name))
        points = torch.rand(12, 1, 2, generator=g) + 0.01 * torch.randn(12, frames, 2, generator=g)
        path = folder / "trajectories" / f"{name}.npz" if nested else folder / "trajectories.npz"
        Tracks(points, torch.ones(12, frames, dtype=torch.bool)).save(path)
    return folder


def write_cases(root: Path) -> Path:
    """Three cases, in both layouts, in a group and not, one without tracks."""
    write_case(root / "fox")
    write_case(root / "easy" / "owl", nested=True)
    write_case(root / "easy" / "yak", tracks=False)
    return root


def scores(run):
    return [(r["case"], r["method"], r["prompt"], r["seed"], r["scores"]) for r in run.results]


def bench(data, out, make=build, methods=METHODS, seeds=(0, 1), **more):
    return run_bench(data, out, methods, seeds, make, {"model": "fake"}, **more)

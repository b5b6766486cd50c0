"""Does the source's size come along? One path, its subject small, usual and large; prompts name no size.

    python tests/benchmarks/subject_sizes.py --out sizes.json      # about 6 CPU minutes

Embedded model. `size_px`: radius of the video's sprite, mean over frames, from its area against that of the prompted
shape; the other scores are the study's.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study import scores  # noqa: E402
from study_cases import PATHS, StudyCase, held_out_scene, other_prompts, source_of  # noqa: E402
from study_methods import Motion  # noqa: E402
from study_report import interval  # noqa: E402
from study_rows import BASE, TRAININGS  # noqa: E402

from det_core.files import write_json  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip  # noqa: E402
from det_core.models.embedded.corpus import FRAMES, Clip, Scene, render_video  # noqa: E402

USUAL = 11.5  # px, the corpus's mean radius
SIZES = {"small": 6.5, "usual": USUAL, "large": 16.0}
MOTIONS = ("three sides", "unequal legs", "pendulum", "u-turn")
METHODS = {BASE: ("nothing", None), "guidance": ("guided", None), "fast": ("fast", ("last", 0.0))}
SEEDS = (400, 401)
SCORES = ("motion_fidelity", "edit_fidelity", "leakage", "size_px")


def sized_case(index: int, name: str, radius: float) -> StudyCase:
    """The path is drawn towards the middle, so that a large subject stays inside; one scene and prompts a motion."""
    generator = torch.Generator().manual_seed(9000 + index)
    scene, path = held_out_scene(generator), 32 + 0.7 * (PATHS[name] - 32)
    still = torch.zeros(FRAMES)
    clip = Clip(render_video(scene, path, still + radius, still), path, scene)
    prompts = other_prompts(scene, generator, 2)
    return StudyCase(name, index, clip, prompts, (source_of(name, clip, generator),))


def area(frames: torch.Tensor) -> float:
    """Pixels of the sprite, mean over frames, each read alone."""
    return mean(float(read_clip(frame[None]).first_mask.sum()) for frame in frames)


@cache
def usual_area(shape: str) -> float:
    scene = Scene("red", shape, "navy", "plain")
    one = torch.zeros(1)
    return area(render_video(scene, torch.full((1, 2), 32.0), one + USUAL, one))


def rows_of(model: EmbeddedModel, case: StudyCase, radius: str) -> list[dict]:
    """The scores of every video that one source moves."""
    motion, found = Motion(model, case), []
    jobs = [(prompt, seed) for prompt in case.prompts for seed in SEEDS]
    for method, (training, how) in METHODS.items():
        videos = motion.videos(TRAININGS[training](motion), how, jobs)
        for (prompt, seed), video in zip(jobs, videos, strict=True):
            size = USUAL * (area(video) / usual_area(prompt.split()[2])) ** 0.5
            measured = {**scores(video, prompt, motion), "size_px": size}
            found.append(
                {"motion": case.name, "radius": radius, "method": method, "prompt": prompt, "seed": seed, **measured}
            )
    return found


def summary(found: list[dict]) -> dict:
    """Means by method and size of the source; and, paired, what a small and a large source change against a usual."""
    table: dict = {}
    for method in METHODS:
        for radius in SIZES:
            mine = [r for r in found if (r["method"], r["radius"]) == (method, radius)]
            table[f"{method}, {radius}"] = {"videos": len(mine)} | {n: mean(r[n] or 0.0 for r in mine) for n in SCORES}
            if radius != "usual":
                table[f"{method}, {radius}"]["less usual"] = {s: _paired(found, method, radius, s) for s in SCORES}
    return table


def _paired(found: list[dict], method: str, radius: str, score: str) -> dict:
    value = {
        (r["motion"], r["radius"], r["prompt"], r["seed"]): r[score] or 0.0 for r in found if r["method"] == method
    }
    keys = dict.fromkeys((motion, prompt, seed) for motion, _, prompt, seed in value)
    motions = dict.fromkeys(motion for motion, _, _ in keys)
    each = [[value[m, radius, p, s] - value[m, "usual", p, s] for m, p, s in keys if m == motion] for motion in motions]
    return {"mean": mean(map(mean, each)), "interval": interval(each)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, found = EmbeddedModel(Compute.on("cpu")), []
    for index, name in enumerate(MOTIONS):
        for radius, px in SIZES.items():
            found += rows_of(model, sized_case(index, name, px), radius)
        table = summary(found)
        write_json(args.out, {"sizes_px": SIZES, "seeds": SEEDS, "torch": torch.__version__, "rows": table})
        print(f"{index + 1} of {len(MOTIONS)} motions", flush=True)
    for name, row in table.items():
        print(name, {k: v if k == "less usual" else round(v, 3) for k, v in row.items()})


if __name__ == "__main__":
    main()

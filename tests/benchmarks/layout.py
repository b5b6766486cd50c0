"""How much of a source's layout a method takes along with its motion: the place and the size of the subject.

    python tests/benchmarks/layout.py --out runs/layout

Each of four motions is made with a small and with a large subject, on the embedded model; prompts name another subject
on another background. place_px: mean distance to where the source's subject was at the same time. size: by how much
larger the subjects of the large sources' videos are than those of the small ones', as a share of what the sources
differ by (logarithms of areas in the first frame): 0 is the prompt's own size, 1 the source's.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_cases import PATHS, StudyCase, source_of, untuned_case  # noqa: E402
from study_methods import Motion  # noqa: E402
from study_rows import TRAININGS  # noqa: E402

from det_core.files import write_json  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip  # noqa: E402
from det_core.models.embedded.corpus import FRAMES, Clip, render_video  # noqa: E402

MOTIONS = ("stops", "accelerates", "half orbit", "u-turn")
RADII = (8.5, 14.5)  # pixels; the embedded model draws subjects of about 11.5
ROWS = {  # training, how it is applied
    "no adapter": ("nothing", None),
    "guidance": ("guided", None),
    "DeT `fast`": ("fast", ("last", 0.0)),
}


def case_of(motion: str, radius: float) -> StudyCase:
    """An untuned motion with a subject of another size."""
    case = untuned_case(list(PATHS).index(motion))
    still = torch.zeros(FRAMES)
    frames = render_video(case.clip.scene, case.clip.path, still + radius, still)
    clip = Clip(frames, case.clip.path, case.clip.scene)
    source = source_of(motion, clip, torch.Generator().manual_seed(case.index))
    return replace(case, name=f"{motion}, radius {radius:g}", clip=clip, sources=(source,))


def measured(motion: Motion, videos: list[torch.Tensor]) -> list[dict[str, float]]:
    rows = []
    for video in videos:
        reading = read_clip(video)
        away = (reading.centres - motion.case.clip.path).norm(dim=-1)[reading.seen]
        leakage = reading.agreement(motion.case.clip.scene)["edit_fidelity"]
        area = reading.first_mask.float().sum().item()
        rows.append({"place_px": away.mean().item(), "leakage": leakage, "area": max(area, 1.0)})
    return rows


def run(model: EmbeddedModel, name: str, radius: float) -> dict[str, list[dict[str, float]]]:
    """Every row's videos of one source."""
    motion, found, trained = Motion(model, case_of(name, radius)), {}, {}
    jobs = [(prompt, 200) for prompt in motion.case.prompts]
    for row, (training, how) in ROWS.items():
        if training not in trained:
            trained[training] = TRAININGS[training](motion)
        found[row] = measured(motion, motion.videos(trained[training], how, jobs))
    source = read_clip(motion.case.clip.frames).first_mask.float().sum().item()
    return {"source": [{"area": source}], **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a source")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, found = EmbeddedModel(Compute.on("cpu")), {}
    for name in MOTIONS:
        for radius in RADII:
            path = args.out / f"{name}-{radius:g}.json"
            if not path.exists():
                write_json(path, run(model, name, radius))
            found[name, radius] = json.loads(path.read_text(encoding="utf-8"))

    def size(name: str, row: str) -> float:
        small, large = (mean(math.log(v["area"]) for v in found[name, radius][row]) for radius in RADII)
        return large - small

    print("| row | place, px | size | leakage |\n|---|---|---|---|")
    for row in ROWS:
        videos = [video for one in found.values() for video in one[row]]
        share = sum(size(name, row) for name in MOTIONS) / sum(size(name, "source") for name in MOTIONS)
        place, leakage = (mean(v[key] for v in videos if v[key] == v[key]) for key in ("place_px", "leakage"))
        print(f"| {row} | {place:.1f} | {share:.2f} | {leakage:.3f} |")


if __name__ == "__main__":
    main()

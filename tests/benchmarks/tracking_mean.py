"""Which mean the tracking loss takes: over the pairs that are seen (the paper) or over all (the released code).

    python tests/benchmarks/tracking_mean.py --out runs/tracking-mean            # continues where it was stopped
    python tests/benchmarks/tracking_mean.py --out runs/tracking-mean --report   # the result of what is there

The embedded model, 200 steps, on motions that nothing was tuned on. Both means learn from the same tracks, draws and
noise; little more than a third of the tracks' pairs is seen, as trackers leave it: each point is followed from the
first frame until it is lost, which happens at a quarter of its steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study import scores  # noqa: E402
from study_cases import PATHS, untuned_case  # noqa: E402
from study_methods import Motion, beside, det  # noqa: E402
from study_report import SCORES, interval  # noqa: E402
from study_rows import ADVISED  # noqa: E402

from det_core.files import write_json  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel  # noqa: E402
from det_core.tracking.tracks import Tracks  # noqa: E402

log = logging.getLogger("tracking_mean")
MEANS = ("visible", "all")
MOTIONS = tuple(PATHS)[:6]
SAMPLES = (200, 201)  # seeds
KEPT = 0.75  # of the points that are still seen, from one frame to the next


def lost_by_and_by(tracks: Tracks, seed: int) -> Tracks:
    """Each point is seen from the first frame until it is lost."""
    lost = torch.rand(len(tracks), tracks.frames - 1, generator=torch.Generator().manual_seed(seed)) > KEPT
    seen = torch.cat([torch.ones(len(tracks), 1, dtype=torch.bool), lost.cumsum(1) == 0], dim=1)
    return replace(tracks, visible=tracks.visible & seen)


def run_unit(model: EmbeddedModel, number: int, reduction: str) -> dict:
    motion = Motion(model, untuned_case(number))
    tracks = lost_by_and_by(motion.source.tracks, motion.seed)
    measured = motion.source
    motion.source = replace(measured, tracks=tracks)
    started = time.process_time()
    trained = beside(motion, det, steps=200, tracking_reduction=reduction)
    seconds, motion.source = time.process_time() - started, measured
    jobs = [(prompt, seed) for prompt in motion.case.prompts for seed in SAMPLES]
    videos = motion.videos(trained, ADVISED, jobs)
    found = [scores(video, prompt, motion) for video, (prompt, _) in zip(videos, jobs, strict=True)]
    seen = (tracks.visible[:, 1:] & tracks.visible[:, :-1]).double().mean().item()
    return {"videos": found, "train_seconds": seconds, "pairs_seen": seen}


def unit_path(out: Path, motion: str, reduction: str) -> Path:
    return out / f"{motion.replace(' ', '-')} {reduction}.json"


def report(out: Path) -> dict:
    """Means of both, and paired gains of "all" with 95% intervals over motions and the videos within them."""
    units = {
        m: [json.loads(unit_path(out, m, r).read_text()) for r in MEANS]
        for m in MOTIONS
        if all(unit_path(out, m, r).exists() for r in MEANS)
    }
    found = {"motions": list(units), "pairs_seen": mean(u[0]["pairs_seen"] for u in units.values())}
    found["train_seconds"] = mean(one["train_seconds"] for pair in units.values() for one in pair)
    for name in SCORES:
        values = [[[v[name] or 0.0 for v in one["videos"]] for one in pair] for pair in units.values()]
        gains = [[b - a for a, b in zip(*pair, strict=True)] for pair in values]
        found[name] = {r: mean(x for pair in values for x in pair[i]) for i, r in enumerate(MEANS)}
        found[name]["all - visible"] = [mean(g for each in gains for g in each), *interval(gains)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a unit")
    parser.add_argument("--report", action="store_true", help="no runs, only the result of what is there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    model = None if args.report else EmbeddedModel()
    for number, motion in enumerate(MOTIONS if model else ()):
        for reduction in MEANS:
            path = unit_path(args.out, motion, reduction)
            if not path.exists():
                write_json(path, run_unit(model, number, reduction))
                log.info("%s, %s", motion, reduction)
    print(json.dumps(report(args.out), indent=1))


if __name__ == "__main__":
    main()

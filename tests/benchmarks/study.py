"""The study behind docs/measured/study.md: ablations, other adapters, Follow-Your-Motion; paired, embedded model.

    python tests/benchmarks/study.py --out runs/study             # everything; continues where it was stopped
    python tests/benchmarks/study.py --out runs/study --untuned   # the motions that nothing was tuned on
    python tests/benchmarks/study.py --out runs/study --candidates  # what `fast` was chosen among
    python tests/benchmarks/study.py --out runs/study --quick     # two motions, few steps: does it run
    python tests/benchmarks/study.py --out runs/study --report    # only the tables and plots of what is there
    python tests/benchmarks/study.py --out runs/study --only form dropped

Every method learns the same source clips with the same seeds and answers the same prompts from the same noise. Units,
their files and the workers are those of `det_core.bench`; rows are in study_rows.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_methods import Motion, Trained  # noqa: E402
from study_rows import GROUPS, TRAININGS, Plan  # noqa: E402

from det_core.bench.runner import claim, run_groups  # noqa: E402
from det_core.bench.units import Outcome, Unit, read_results  # noqa: E402
from det_core.measure import SpriteRuler  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip  # noqa: E402


class Study:
    """Runs units of a plan. The last training stays in memory, so run groups in order."""

    def __init__(self, plan: Plan):
        torch.set_num_threads(1)
        self.plan, self.rows = plan, plan.by_method()
        self.model = EmbeddedModel(Compute.on("cpu"))
        self._last: tuple[tuple, Motion, Trained, float] | None = None

    def __call__(self, unit: Unit) -> Outcome:
        """Seconds are of CPU time; "parameters" stands with the costs."""
        row, draw = self.rows[unit.method]
        motion, trained, train_s = self._trained(unit, row.training, draw)
        started = time.process_time()
        (video,) = motion.videos(trained, row.how, [(unit.prompt, unit.seed)])
        cost = {"train_s": train_s, "sample_s": time.process_time() - started, "parameters": trained.parameters}
        return Outcome(scores(video, unit.prompt, motion), cost)

    def _trained(self, unit: Unit, training: str, draw: int) -> tuple[Motion, Trained, float]:
        key = unit.case.name, training, draw
        if self._last is None or self._last[0] != key:
            motion, started = Motion(self.model, unit.case, draw, self.plan.steps), time.process_time()
            trained = TRAININGS[training](motion)
            seconds = time.process_time() - started if trained.parameters else 0.0
            self._last = key, motion, trained, seconds
        return self._last[1:]


def scores(video: torch.Tensor, prompt: str, motion: Motion) -> dict[str, float | None]:
    """Read from the pixels (docs/understand/metrics.md). leakage: the share of frames with the SOURCE's colour, shape
    and background; place_px: mean distance to where the source's sprite was at the same time."""
    measured, reading, clip = SpriteRuler().measure(video, prompt, motion.source), read_clip(video), motion.case.clip
    away = (reading.centres - clip.path).norm(dim=-1)[reading.seen]
    return {
        "motion_fidelity": measured.motion_fidelity,
        "edit_fidelity": measured.edit_fidelity,
        "temporal_consistency": measured.temporal_consistency,
        "leakage": reading.agreement(clip.scene)["edit_fidelity"],
        "place_px": away.mean().item() if len(away) else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a unit")
    parser.add_argument("--untuned", action="store_true", help="ten motions that no setting was chosen on")
    parser.add_argument("--candidates", action="store_true", help="what `fast` was chosen among, on clips for choosing")
    parser.add_argument("--quick", action="store_true", help="2 motions, 2 videos each, 20 steps; in a folder beside")
    parser.add_argument("--report", action="store_true", help="no runs, only tables and plots of what is there")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan.untuned() if args.untuned else Plan.candidates() if args.candidates else Plan.study(tuple(args.only))
    plan = plan.quick() if args.quick else plan
    out, groups = args.out / plan.name, plan.groups()
    claim(out, {"plan": plan.name, "steps": plan.steps, "seeds": plan.seeds})
    if not args.report:
        waiting = [group for group in groups if not all(unit.is_done(out) for unit in group)]
        run_groups(waiting, out, partial(Study, plan), args.workers)
    from study_report import write_report

    results, failed = read_results(groups, out)
    print(write_report(results, plan, out))
    if failed:
        print(f"{len(failed)} videos are missing, the first: {failed[0]}; the same command continues where it was")


if __name__ == "__main__":
    main()

"""Is the motion learned where the noise is high? The embedded model with adapters that learned on a part of the noise.

    python tests/benchmarks/noise_parts.py --out runs/noise     # continues where it was stopped, prints the table

As Wan 2.2 gives one part of a sampling to one model and the rest to another, so here adapters that learned on times
above or below a border act there, alone or together. Motions, seeds and scores are those of the study's `--untuned`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study import scores  # noqa: E402
from study_cases import PATHS, untuned_case  # noqa: E402
from study_methods import Motion, Trained, config_of  # noqa: E402
from study_report import interval  # noqa: E402
from study_rows import Plan  # noqa: E402

from det_core.adapter.attach import tapped  # noqa: E402
from det_core.adapter.motion_adapter import MotionAdapter  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel  # noqa: E402
from det_core.models.families import call_grid  # noqa: E402
from det_core.models.overriding import overridden  # noqa: E402
from det_core.training.loop import train_motion_adapter  # noqa: E402

SCORES = ("motion_fidelity", "edit_fidelity", "leakage")
BORDERS = (0.5, 0.8)  # half of the embedded model's steps lie above 0.5, a fifth above 0.8
ALL = (0.0, 1.0)
# Name -> what acts: (span that the adapter learned on, span in which it acts), ...
METHODS: dict[str, tuple] = {"no adapter": (), "learned on all": ((ALL, ALL),)}
for b in BORDERS:
    high = (b, 1.0)
    METHODS |= {
        f"learned on all, acts above {b:g}": ((ALL, high),),
        f"learned above {b:g}, acts there": ((high, high),),
    }
METHODS["learned above 0.5, acts everywhere"] = (((0.5, 1.0), ALL),)
METHODS["two: above 0.5 and below"] = (((0.5, 1.0), (0.5, 1.0)), ((0.0, 0.5), (0.0, 0.5)))


@contextmanager
def acting(model: torch.nn.Module, spec, parts: list[tuple[MotionAdapter, tuple[float, float]]]) -> Iterator[None]:
    """Each adapter acts in its span of times."""
    forward = model.forward

    def timed(*args, **kwargs):
        t = kwargs["timestep"].max().item() / 1000
        for adapter, (low, high) in parts:
            if low <= t < high or (t == high == 1.0):
                kernels = adapter.kernels_for(spec, adapter.keep)
                with tapped(model, spec, kernels, lambda: call_grid(spec, args, kwargs)):
                    return forward(*args, **kwargs)
        return forward(*args, **kwargs)

    with overridden([(model, timed)]):
        yield


def scored(motion: Motion) -> dict[str, list[dict]]:
    """The videos' scores by method."""
    denoiser, tracks, learned = motion.denoiser, motion.source.tracks, {}
    for span in {span for parts in METHODS.values() for span, _ in parts}:
        config = config_of(motion, noise_span=span)
        learned[span] = train_motion_adapter(denoiser, motion.latents, motion.cond, tracks, config).adapter
    rows, jobs = {}, [(prompt, seed) for prompt in motion.case.prompts for seed in Plan.untuned().seeds]
    for name, parts in METHODS.items():
        adapters = [(learned[span], where) for span, where in parts]
        applied = Trained(apply=partial(acting, denoiser.transformer, motion.spec))
        videos = motion.videos(applied, adapters, jobs)
        rows[name] = [scores(video, prompt, motion) for video, (prompt, _) in zip(videos, jobs, strict=True)]
    return rows


def table(units: dict[str, dict]) -> str:
    """Means, and the paired gain in motion fidelity over the adapter that learned on all, with its 95% interval."""
    lines = [
        f"{len(units)} motions",
        "| adapter | motion fidelity | edit fidelity | leakage | fidelity gained on: learned on all |",
    ]
    lines.append("|---|---|---|---|---|")
    for name in METHODS:
        values = {s: [v[s] or 0.0 for unit in units.values() for v in unit[name]] for s in SCORES}
        pairs = [list(zip(unit[name], unit["learned on all"], strict=True)) for unit in units.values()]
        gains = [[(a["motion_fidelity"] or 0.0) - (b["motion_fidelity"] or 0.0) for a, b in each] for each in pairs]
        low, high = interval(gains)
        gain = f"{mean(g for each in gains for g in each):+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(f"| {name} | " + " | ".join(f"{mean(values[s]):.3f}" for s in SCORES) + f" | {gain} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a motion")
    parser.add_argument("--steps", type=int, default=100, help="of every training")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model, units = EmbeddedModel(Compute.on("cpu")), {}
    for index, motion in enumerate(PATHS):
        file = args.out / f"{motion}.json"
        if not file.exists():
            file.write_text(json.dumps(scored(Motion(model, untuned_case(index), steps=args.steps))))
        units[motion] = json.loads(file.read_text())
        print(table(units), flush=True)


if __name__ == "__main__":
    main()

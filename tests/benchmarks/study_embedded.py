"""DeT on the embedded DiT against no adapter, its own ablations, LoRA and full fine-tuning, paired.

    python tests/benchmarks/study_embedded.py --out runs/study            # everything, continues where it stopped
    python tests/benchmarks/study_embedded.py --out runs/study --report   # tables only

Every method learns the same source clips with the same steps and seeds and answers the same prompts from the same
noise.
Scores are read from the pixels (det_core/tiny/reader.py): motion fidelity of the sprite's path (paper's hybrid), edit
fidelity as the share of frames with the prompted colour, shape and background, leakage as the share with the SOURCE's.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch

from det_core.adapter import MotionAdapter
from det_core.baselines.full import FullFineTuning
from det_core.baselines.lora import LoRA
from det_core.files import atomic_write
from det_core.measure import SpriteRuler
from det_core.tiny.base_model import EmbeddedModel, read_clip, sprite_tracks
from det_core.tiny.corpus import Clip, Scene, make_clip
from det_core.tracks import sample_query_points
from det_core.train import TrainConfig, fit
from det_core.transfer import Source, generate

FAMILIES = ("loop", "spiral", "zigzag", "bounce", "figure_eight", "heart")  # the last two are not in the corpus
PROMPTS = 5
SEEDS = (100, 101)


@dataclass(frozen=True)
class Method:
    """How one row of the table is trained and applied. Rows with the same `trained_as` share a training."""

    name: str
    trained_as: str | None
    make: Callable | None = None  # (denoiser, generator) -> trainable module
    changes: dict | None = None  # of the training configuration
    keep: str = "all"  # "all" blocks or the "advised" ones


def make_det(denoiser, generator):
    return MotionAdapter.create(denoiser.spec, generator=generator)


def make_lora(denoiser, generator):
    """As many parameters as the motion adapter: the nearest rank."""
    wanted = sum(p.numel() for p in make_det(denoiser, generator).parameters())
    one = sum(p.numel() for p in LoRA(denoiser.transformer, 1, generator).parameters())
    return LoRA(denoiser.transformer, round(wanted / one), generator)


METHODS = (
    Method("no adapter", None),
    Method("DeT, 65% dropped", "det", make_det, keep="advised"),
    Method("DeT, nothing dropped", "det", make_det),
    Method("DeT without tracking loss, 65% dropped", "det-no-tracking", make_det, {"tracking_weight": 0.0}, "advised"),
    Method("DeT, noisy timesteps, 65% dropped", "det-noisy", make_det, {"timestep_power": 0.6}, "advised"),
    Method("LoRA q,k,v,o, same size", "lora", make_lora, {"lr": 1e-2}),
    Method("full fine-tuning", "full", lambda denoiser, _: FullFineTuning(denoiser.transformer), {"lr": 1e-3}),
)
SNAPSHOTS = (0.5,)  # of the training steps: points of the EF-MF curves, one seed each


def study_clip(index: int) -> tuple[Clip, Source, list[str]]:
    """Source `index`, its tracks, and prompts that share no word with its scene."""
    generator = torch.Generator().manual_seed(4000 + index)
    scenes = Scene.held_out()
    scene = scenes[int(torch.randint(len(scenes), (), generator=generator))]
    clip = make_clip(scene, FAMILIES[index], generator)
    reading = read_clip(clip.frames)
    points = sample_query_points(reading.first_mask, 50, generator=generator)
    frames = (clip.frames * 255).round().byte()
    source = Source(f"{FAMILIES[index]}", "", 8.0, frames, clip.frames, sprite_tracks(reading, points))
    other = [s for s in scenes if not {s.colour, s.shape, s.background, s.pattern} & set(scene.caption.split())]
    order = torch.randperm(len(other), generator=generator)[:PROMPTS]
    return clip, source, [other[i].caption for i in order]


def leakage(frames: torch.Tensor, scene: Scene) -> float:
    """Share of (frame, attribute) pairs that show the source's colour, shape or background."""
    return read_clip(frames).agreement(scene)["edit_fidelity"]


def score(model, clip, source, prompts, seeds, adapter, keep, context) -> list[dict]:
    latent_shape = model.encode_video(source.pixels).shape
    with context:
        videos = generate(model, adapter, prompts, list(seeds), latent_shape, keep=keep, batch=5)
    ruler, rows = SpriteRuler(), []
    for (prompt, seed), video in zip([(p, s) for p in prompts for s in seeds], videos, strict=True):
        measured = ruler.measure(video, prompt, source)
        rows.append(
            {
                "prompt": prompt,
                "seed": seed,
                "motion_fidelity": measured.motion_fidelity,
                "edit_fidelity": measured.edit_fidelity,
                "temporal_consistency": measured.temporal_consistency,
                "leakage": leakage(video, clip.scene),
                "seen": read_clip(video).seen.float().mean().item(),
            }
        )
    return rows


def run_unit(model: EmbeddedModel, method: Method, index: int, config_changes: dict, out: Path) -> None:
    """One method on one source: train (once per training), sample, score; writes one JSON a row."""
    rows = [m for m in METHODS if m.trained_as == method.trained_as]
    files = {m.name: out / f"{slug(m.name)}-{FAMILIES[index]}.json" for m in rows}
    if all(file.exists() for file in files.values()):
        return
    clip, source, prompts = study_clip(index)
    if method.trained_as is None:
        write(files[method.name], {"rows": score(model, clip, source, prompts, SEEDS, None, None, nullcontext())})
        return
    config = TrainConfig.for_spec(model.denoiser.spec, seed=index, **{**config_changes, **(method.changes or {})})
    module = method.make(model.denoiser, torch.Generator().manual_seed(index))
    is_det = isinstance(module, MotionAdapter)
    curves: dict[str, dict[str, list]] = {m.name: {} for m in rows}

    def scored(row: Method, seeds) -> list[dict]:
        keep = module.keep if row.keep == "advised" else None
        if is_det:
            return score(
                model,
                clip,
                source,
                prompts,
                seeds,
                module,
                list(module.blocks) if keep is None else keep,
                nullcontext(),
            )
        with torch.no_grad():
            return score(
                model, clip, source, prompts, seeds, None, None, module.attached_to(model.denoiser.transformer)
            )

    pauses = 0.0

    started = time.monotonic()
    state = None
    for share in (*SNAPSHOTS, 1.0):
        stop_at = round(share * config.steps)
        state = continue_until(model, module, clip, source, config, state, stop_at)
        if share < 1.0:
            paused = time.monotonic()
            for row in rows:
                curves[row.name][str(stop_at)] = scored(row, SEEDS[:1])
            pauses += time.monotonic() - paused
    seconds = time.monotonic() - started - pauses
    parameters = sum(p.numel() for p in module.parameters())
    for row in rows:
        write(
            files[row.name],
            {"rows": scored(row, SEEDS), "curve": curves[row.name], "train_seconds": seconds, "parameters": parameters},
        )


class Pause(Exception):
    pass


def continue_until(model, module, clip, source, config, state, stop_at):
    """Train `module` in place from `state` up to step `stop_at` of `config`; returns the state there."""
    reached = None

    def on_step(run, _losses):
        nonlocal reached
        if run.step == stop_at:
            reached = run.state()
            raise Pause

    latents = model.encode_video(source.pixels)
    cond = model.encode_prompts([clip.scene.caption])
    try:
        fit(model.denoiser, module, latents, cond, source.tracks, config, on_step=on_step, resume=state)
    except Pause:
        pass
    return reached


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def write(path: Path, value: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value))


# ------------------------------------------------------------------------------------------- report


def interval(per_motion: list[list[float]], draws: int = 4000) -> tuple[float, float]:
    """95% bootstrap interval of a mean over motions, resampling motions and the videos within them."""
    rng = random.Random(0)
    means = []
    for _ in range(draws):
        chosen = rng.choices(per_motion, k=len(per_motion))
        means.append(mean(mean(rng.choices(videos, k=len(videos))) for videos in chosen))
    means.sort()
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def report(out: Path) -> dict:
    """All rows with means over motions, and the paired gain over no adapter with its interval."""

    def load(name: str) -> list[dict]:
        return [json.loads((out / f"{slug(name)}-{family}.json").read_text()) for family in FAMILIES]

    base = load("no adapter")
    rows = []
    for method in METHODS:
        units = load(method.name)
        values = {
            key: [[row[key] for row in unit["rows"]] for unit in units]
            for key in ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage", "seen")
        }
        row = {"method": method.name, **{key: mean(map(mean, per_motion)) for key, per_motion in values.items()}}
        if method.trained_as:
            gains = {
                key: [
                    [a[key] - b[key] for a, b in zip(unit["rows"], reference["rows"], strict=True)]
                    for unit, reference in zip(units, base, strict=True)
                ]
                for key in ("motion_fidelity", "edit_fidelity")
            }
            for key, per_motion in gains.items():
                row[f"{key}_gain"] = mean(map(mean, per_motion))
                row[f"{key}_gain_interval"] = interval(per_motion)
            row["motions_won"] = sum(mean(g) > 0 for g in gains["motion_fidelity"])
            row["train_seconds"] = mean(unit["train_seconds"] for unit in units)
            row["parameters"] = units[0]["parameters"]
            row["curve"] = {
                step: [
                    mean(mean(r[key] for r in unit["curve"][step]) for unit in units)
                    for key in ("edit_fidelity", "motion_fidelity")
                ]
                for step in units[0]["curve"]
            }
        row["per_motion"] = dict(zip(FAMILIES, map(mean, values["motion_fidelity"]), strict=True))
        rows.append(row)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "rows": rows,
    }


def table(result: dict) -> str:
    lines = [
        "| method | MF | EF | consistency | leakage | MF gain [95%] | EF change [95%] | parameters | train s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:

        def gain(key, r=r):
            if f"{key}_gain" not in r:
                return ""
            low, high = r[f"{key}_gain_interval"]
            return f"{r[f'{key}_gain']:+.3f} [{low:+.3f}, {high:+.3f}]"

        cells = [
            r["method"],
            *(f"{r[k]:.3f}" for k in ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage")),
        ]
        cells += [
            gain("motion_fidelity"),
            gain("edit_fidelity"),
            str(r.get("parameters", "")),
            f"{r.get('train_seconds', 0):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16: faster where the CPU has it")
    parser.add_argument("--report", action="store_true", help="only print the tables of what is there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="another embedded DiT than the shipped one")
    parser.add_argument(
        "--motions", type=int, nargs="+", default=range(len(FAMILIES)), help="some motions only, to share the work"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.report:
        from det_core.tiny.model import TinyModel

        model = EmbeddedModel(tiny=TinyModel.load(args.weights) if args.weights else None)
        for index in args.motions:
            for method in METHODS:
                run_unit(model, method, index, {"bf16": args.bf16}, args.out)
                print("done", method.name, FAMILIES[index], flush=True)
    if all((args.out / f"{slug(m.name)}-{family}.json").exists() for m in METHODS for family in FAMILIES):
        result = report(args.out)
        write(args.out / "report.json", result)
        print(table(result))


if __name__ == "__main__":
    main()

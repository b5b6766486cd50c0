"""How methods do on motions that nothing was tuned on: the embedded model, paired, resumable.

    python tests/benchmarks/untuned.py --out runs/untuned            # everything; continues where it was stopped
    python tests/benchmarks/untuned.py --out runs/untuned --report   # the table of what is there

One unit is one method with one training seed on one motion: 2 prompts x 3 seeds (1 for the methods that others made),
each video on the noise of the video without adapter. Scores are read from the pixels (docs/understand/metrics.md).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import study_rows  # noqa: E402
from study_methods import BF16  # noqa: E402
from study_report import interval  # noqa: E402
from study_source import SCORES, Plan, write  # noqa: E402
from study_units import _claim  # noqa: E402
from untuned_motions import PATHS, untuned_clip  # noqa: E402

from det_core.baselines.lora_losses import DrawnForLoRA  # noqa: E402
from det_core.bench.adapters import EMBEDDED_LORA, LORAS  # noqa: E402
from det_core.bench.guided import GUIDED as BENCH_GUIDED  # noqa: E402
from det_core.guidance.guide import Plan as GuidancePlan  # noqa: E402
from det_core.guidance.losses import FEATURES, Loss  # noqa: E402
from det_core.guidance.reference import MotionReference, subject_cells  # noqa: E402
from det_core.guidance.sampling import MotionGuidance  # noqa: E402
from det_core.lora.lora import LoRA  # noqa: E402
from det_core.measure import SpriteRuler  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip, sprite_tracks  # noqa: E402
from det_core.models.sample import sample  # noqa: E402
from det_core.source import Source  # noqa: E402
from det_core.tracking.tracks import sample_query_points  # noqa: E402
from det_core.training.loop import TrainConfig, fit  # noqa: E402

log = logging.getLogger("untuned")
BASE, GUIDED, MASKED = "no adapter", "guidance (no training)", "guidance where the subject passes"
SEEDS = (200, 201, 202)  # of sampling
RIVALS_SEEDS = SEEDS[:1]
# Method -> the study's training and how it is applied. All of DeT's rows drop the last 65% of the blocks.
TRAINED = {
    "DeT, 200 steps": ("steps 200", study_rows.ADVISED),
    "DeT, 100 steps": ("det", study_rows.ADVISED),
    "DeT `fast`, 200 steps": ("fast 0.75", study_rows.ADVISED),
    "LoRA, 100 steps": ("lora", None),
    "Follow-Your-Motion": ("fym", (0.0, 1.0)),
}
# As ported to DiTs (docs/measured/benchmark.md): method of the benchmark by name.
FREE = {"DiTFlow": "ditflow", "MOFT": "moft", "MotionClone": "motionclone", "FlowMotion": "flowmotion", "DMT": "dmt"}
LEARNED = {"DreamBooth": "dreambooth", "MotionDirector": "motiondirector", "SMA": "sma"}
RIVALS = {**FREE, **LEARNED}
# What runs, most wanted first: (method, training seeds).
ORDER = (
    (BASE, (0,)), (GUIDED, (0,)), ("DeT, 200 steps", (0,)), *((name, (0,)) for name in FREE), (MASKED, (0,)),
    *((name, (0,)) for name in (*LEARNED, *TRAINED)),
    *((name, (1, 2)) for name in ("DeT, 200 steps", "DeT `fast`, 200 steps", "DeT, 100 steps")),
)  # fmt: skip


class Unit:
    """One motion on the embedded model, with the face that the study's trainings ask for; `index` is their seed."""

    def __init__(self, model: EmbeddedModel, motion: str, seed: int):
        self.model, self.index, self.plan = model, 1000 * seed + list(PATHS).index(motion), Plan()
        self.clip, self.prompts = untuned_clip(motion)
        reading = read_clip(self.clip.frames)
        points = sample_query_points(reading.first_mask, 50, generator=torch.Generator().manual_seed(self.index))
        frames = (self.clip.frames * 255).round().byte()
        self.source = Source(motion, "", 8.0, frames, self.clip.frames, sprite_tracks(reading, points))
        self.latents = model.encode_video(self.clip.frames)
        self.cond = model.encode_prompts([self.clip.scene.caption])

    @property
    def denoiser(self):
        return self.model.denoiser

    @property
    def spec(self):
        return self.model.denoiser.spec

    def scored(
        self,
        applied: AbstractContextManager,
        guidance: Callable[[], MotionGuidance] | None = None,
        seeds: Sequence[int] = SEEDS,
    ) -> dict:
        """The scores of every video, prompt by prompt, and the seconds of CPU that sampling them took."""
        ruler, rows, started = SpriteRuler(), [], time.process_time()
        noise = torch.cat([torch.randn(self.latents.shape, generator=_seeded(seed)) for seed in seeds])
        nothing = self.model.encode_prompts([""] * len(seeds))
        videos = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, BF16), applied:
            for prompt in self.prompts:
                cond = self.model.encode_prompts([prompt] * len(seeds))
                latents = sample(self.denoiser, cond, nothing, noise, guidance=guidance and guidance())
                videos += [(prompt, seed, one) for seed, one in zip(seeds, latents, strict=True)]
        seconds = time.process_time() - started
        for prompt, seed, latents in videos:
            video = self.model.decode_video(latents[None])
            measured = ruler.measure(video, prompt, self.source)
            scores = {name: getattr(measured, name) for name in SCORES[:3]}
            reading = read_clip(video)
            leakage = reading.agreement(self.clip.scene)["edit_fidelity"]
            away = (reading.centres - self.clip.path).norm(dim=-1)[reading.seen]
            place = away.mean().item() if len(away) else None
            rows.append({"prompt": prompt, "seed": seed, **scores, "leakage": leakage, "place_px": place})
        return {"videos": rows, "sample_seconds": seconds}

    def guided(self, loss: Loss = FEATURES, masked: bool = False) -> MotionGuidance:
        subject = subject_cells(self.source.tracks, self.latents.shape) if masked else None
        reference, empty = MotionReference(self.latents, self.spec.name, subject), self.model.encode_prompts([""])
        return MotionGuidance(reference, empty, GuidancePlan.for_spec(self.spec, loss))

    def learned(self, method: str) -> AbstractContextManager:
        """One of `LEARNED`, trained as the study's LoRA is: as long, and at the learning rate of the benchmark's."""
        rival, rate = LORAS[method], EMBEDDED_LORA["lr"]
        config = TrainConfig.for_spec(self.spec, steps=100, seed=self.index, lr=rate, bf16=BF16)
        rank = rival.rank or EMBEDDED_LORA["rank"]
        lora = LoRA(self.denoiser.transformer, rank, _seeded(self.index), kinds=rival.kinds)
        draw = DrawnForLoRA(self.denoiser, self.latents, self.cond, config, rival.loss)
        fit(self.denoiser, lora, draw, config, learns_from="", shape=self.latents.shape)
        return lora.requires_grad_(False).attached_to(self.denoiser.transformer)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_unit(unit: Unit, method: str) -> dict:
    if method in (BASE, GUIDED, MASKED):
        guidance = {BASE: None, GUIDED: unit.guided, MASKED: partial(unit.guided, masked=True)}[method]
        return {**unit.scored(nullcontext(), guidance), "train_seconds": 0.0}
    if method in FREE:
        guidance = partial(unit.guided, BENCH_GUIDED[FREE[method]])
        return {**unit.scored(nullcontext(), guidance, RIVALS_SEEDS), "train_seconds": 0.0}
    started = time.process_time()
    if method in LEARNED:
        applied, seeds = unit.learned(LEARNED[method]), RIVALS_SEEDS
    else:
        training, how = TRAINED[method]
        applied, seeds = study_rows.TRAININGS[training](unit).apply(how), SEEDS
    seconds = time.process_time() - started
    return {**unit.scored(applied, seeds=seeds), "train_seconds": seconds}


def unit_path(out: Path, method: str, motion: str, seed: int) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in f"{method} {motion} {seed}")
    return out / f"{name}.json"


def open_units(out: Path) -> Iterator[tuple[str, str, int]]:
    for method, seeds in ORDER:
        for seed in seeds:
            for motion in PATHS:
                path = unit_path(out, method, motion, seed)
                with _claim(path) as mine:
                    if mine and not path.exists():
                        yield method, motion, seed


def work(out: Path) -> None:
    torch.set_num_threads(1)
    model = EmbeddedModel()
    for method, motion, seed in open_units(out):
        write(unit_path(out, method, motion, seed), run_unit(Unit(model, motion, seed), method))
        log.info("%s, %s, training seed %d", method, motion, seed)


def report(out: Path) -> dict[str, dict]:
    """{method: means, and paired gains over no adapter with 95% intervals} over the motions that are there; motions
    and the videos within them are drawn anew, training seeds are videos of their own."""
    rows = {}
    for method in (BASE, GUIDED, MASKED, *RIVALS, *TRAINED):
        units = {}
        for motion in PATHS:
            paths = [unit_path(out, method, motion, seed) for seed in range(3)]
            found = [json.loads(path.read_text()) for path in paths if path.exists()]
            if found and unit_path(out, BASE, motion, 0).exists():
                units[motion] = found
        if not units:
            continue
        base = {m: _by_noise(json.loads(unit_path(out, BASE, m, 0).read_text())["videos"]) for m in units}
        seeds = min(len(found) for found in units.values())
        row = {"motions": len(units), "training_seeds": seeds if method in TRAINED else None}
        for name in SCORES:
            values = {m: [v for one in found[:seeds] for v in one["videos"]] for m, found in units.items()}
            row[name] = mean(v[name] or 0.0 for each in values.values() for v in each)
            gains = [
                [(v[name] or 0.0) - (base[m][v["prompt"], v["seed"]][name] or 0.0) for v in values[m]] for m in units
            ]
            row[f"{name}_gain"] = [mean(g for each in gains for g in each), *interval(gains)]
        row["videos"] = sum(map(len, values.values()))
        row["place_px"] = mean(v["place_px"] for each in values.values() for v in each if v["place_px"] is not None)
        every = [one for found in units.values() for one in found[:seeds]]
        row["train_seconds"] = mean(one["train_seconds"] for one in every)
        row["sample_seconds"] = mean(one["sample_seconds"] for one in every)
        row["unmeasured"] = sum(v["motion_fidelity"] is None for one in every for v in one["videos"])
        rows[method] = row
    return rows


def _by_noise(videos: list[dict]) -> dict[tuple[str, int], dict]:
    return {(video["prompt"], video["seed"]): video for video in videos}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a unit")
    parser.add_argument("--report", action="store_true", help="no runs, only the table of what is there")
    parser.add_argument("--worker", action="store_true", help="be one more process in this folder, and report nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.worker:
        return work(args.out)
    if not args.report:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        workers = [subprocess.Popen([sys.executable, *sys.argv, "--worker"], env=environment) for _ in range(2)]
        if any([worker.wait() for worker in workers]):
            sys.exit("a worker stopped; the same command continues where it was")
    print(json.dumps(report(args.out), indent=1))


if __name__ == "__main__":
    main()

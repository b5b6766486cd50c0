"""Follow-Your-Motion on the embedded DiT: against no adapter, LoRA and MotionInversion, and its own ablations, paired.

    python tests/benchmarks/study_fym.py --out runs/study_fym            # everything, continues where it stopped
    python tests/benchmarks/study_fym.py --out runs/study_fym --report   # tables only
    python tests/benchmarks/study_fym.py --out runs/study_fym --quick    # one motion, few steps: does it run

Sources, prompts, seeds and scores are those of study_embedded.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from study_embedded import FAMILIES, SEEDS, interval, score, slug, study_clip, write

from det_core.baselines.lora import LoRA
from det_core.baselines.motion_inversion import MotionInversion
from det_core.fym.classify import classify_heads
from det_core.fym.heads import HeadMap
from det_core.fym.sparse import Example, sparse_latents, still_examples
from det_core.fym.train import LoRAConfig, group_lora, train_lora
from det_core.tiny.base_model import EmbeddedModel
from det_core.train import TrainConfig, fit

SPARSE = 3  # of the 9 latent frames
PAIRS = {"": (0.0, 1.0), ", spatial 0.5": (0.5, 1.0), ", spatial 1": (1.0, 1.0), ", temporal 0.5": (0.0, 0.5)}


@dataclass(frozen=True)
class Variant:
    """One training of Follow-Your-Motion. Each is sampled with some (spatial, temporal) strengths."""

    name: str
    decoupled: bool = True  # two groups of heads; otherwise both stages train all heads
    adaptive: bool = True  # sparse frames stand at their own times; otherwise at 0, 1, 2
    frames: int | None = SPARSE  # latent frames a step; None: all
    spacing: str = "stride"
    motion_loss: str = "code"
    rule: str = "balanced"
    pairs: tuple[str, ...] = ("",)


VARIANTS = (
    Variant("FYM", pairs=tuple(PAIRS)),
    Variant("FYM without decoupling", decoupled=False, pairs=("", ", spatial 1")),
    Variant("FYM without adaptive positions", adaptive=False),
    Variant("FYM without sparse frames", frames=None),
    Variant("FYM, spacing ends", spacing="ends"),
    Variant("FYM, spacing paper", spacing="paper"),
    Variant("FYM, motion loss signed", motion_loss="signed"),
    Variant("FYM, motion loss debiased", motion_loss="debiased"),
    Variant("FYM, motion loss none", motion_loss="none"),
    Variant("FYM, heads by paper", rule="paper"),
    Variant("FYM, heads by code", rule="code"),
)
BASELINES = ("LoRA", "MotionInversion")


@dataclass(frozen=True)
class Budget:
    """How much is done: all motions, prompts and seeds with the default steps, or a glance."""

    motions: tuple[int, ...] = tuple(range(len(FAMILIES)))
    prompts: int | None = None
    seeds: tuple[int, ...] = SEEDS
    steps: int | None = None


class Unit:
    """One source motion: the clip, its prompts, its heads, and how videos of it are scored."""

    def __init__(self, model: EmbeddedModel, index: int, budget: Budget):
        self.model, self.index, self.budget = model, index, budget
        self.clip, self.source, prompts = study_clip(index)
        self.prompts = prompts[: budget.prompts]
        self.latents = model.encode_video(self.source.pixels)
        self.cond = model.encode_prompts([self.clip.scene.caption])

    @property
    def transformer(self):
        return self.model.denoiser.transformer

    def heads(self) -> HeadMap:
        return classify_heads(self.model.denoiser, self.latents, self.cond, seed=self.index)

    def config(self, stage: str, **changes) -> LoRAConfig:
        steps = {} if self.budget.steps is None else {"steps": self.budget.steps}
        return LoRAConfig.for_stage(self.model.denoiser.spec, stage, seed=self.index, **{**steps, **changes})

    @torch.no_grad()
    def score(self, installed: list[tuple[torch.nn.Module, float]]) -> list[dict]:
        context = ExitStack()
        for module, strength in installed:
            context.enter_context(module.attached_to(self.transformer, strength))
        return score(self.model, self.clip, self.source, self.prompts, self.budget.seeds, None, None, context)


def train_variant(unit: Unit, variant: Variant) -> tuple[LoRA, LoRA, float]:
    """Both stages; returns the spatial and the temporal LoRA and the seconds they took, classification included."""
    started = time.monotonic()
    spatial_config = unit.config("spatial")
    temporal_config = unit.config("temporal", motion_loss=variant.motion_loss)
    if variant.decoupled:
        heads = unit.heads().with_rule(variant.rule)
        spatial = group_lora(unit.transformer, heads, "spatial", spatial_config)
        temporal = group_lora(unit.transformer, heads, "temporal", temporal_config)
    else:  # as many parameters: half the rank on all heads
        spatial, temporal = (
            LoRA(unit.transformer, max(1, c.rank // 2), torch.Generator().manual_seed(c.seed), kinds=c.kinds)
            for c in (spatial_config, temporal_config)
        )
    stills = still_examples(unit.model.encode_video, unit.source.pixels)
    train_lora(unit.model.denoiser, spatial, stills, unit.cond, spatial_config)
    examples = (
        [Example(unit.latents)]
        if variant.frames is None
        else sparse_latents(unit.latents, variant.frames, variant.spacing)
    )
    if not variant.adaptive:
        examples = [replace(example, positions=None) for example in examples]
    train_lora(
        unit.model.denoiser, temporal, examples, unit.cond, temporal_config, frozen=spatial.requires_grad_(False)
    )
    return spatial, temporal, time.monotonic() - started


def run_variant(unit: Unit, variant: Variant, out: Path) -> None:
    rows = {pair: result_path(out, variant.name + pair, unit.index) for pair in variant.pairs}
    if all(path.exists() for path in rows.values()):
        return
    spatial, temporal, seconds = train_variant(unit, variant)
    parameters = sum(p.numel() for p in (*spatial.parameters(), *temporal.parameters()))
    for pair, path in rows.items():
        strengths = PAIRS[pair]
        scored = unit.score([(spatial, strengths[0]), (temporal, strengths[1])])
        write(path, {"rows": scored, "train_seconds": seconds, "parameters": parameters})


def run_baseline(unit: Unit, name: str, out: Path) -> None:
    path = result_path(out, name, unit.index)
    if path.exists():
        return
    generator, denoiser = torch.Generator().manual_seed(unit.index), unit.model.denoiser
    config = unit.config("temporal", motion_loss="none")
    started = time.monotonic()
    if name == "LoRA":
        module = LoRA(unit.transformer, config.rank, generator)
        train_lora(denoiser, module, [Example(unit.latents)], unit.cond, config)
    else:
        module = MotionInversion(unit.transformer, denoiser.spec.grid(unit.latents.shape))
        settings = TrainConfig(steps=config.steps, lr=1e-2, seed=unit.index)
        fit(denoiser, module, unit.latents, unit.cond, None, settings)
        module.eval()
    seconds = time.monotonic() - started
    parameters = sum(p.numel() for p in module.parameters())
    write(path, {"rows": unit.score([(module, 1.0)]), "train_seconds": seconds, "parameters": parameters})


def result_path(out: Path, name: str, index: int) -> Path:
    return out / f"{slug(name)}-{FAMILIES[index]}.json"


def report(out: Path) -> dict:
    """All rows complete over the motions found: means, and the paired gain over no adapter with its interval."""
    motions = [i for i in range(len(FAMILIES)) if result_path(out, "no adapter", i).exists()]
    names = ["no adapter", *BASELINES, *(v.name + pair for v in VARIANTS for pair in v.pairs)]
    keys = ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage")
    units = {}
    for name in names:
        paths = [result_path(out, name, i) for i in motions]
        if all(path.exists() for path in paths):
            units[name] = [json.loads(path.read_text()) for path in paths]
    rows = []
    for name, found in units.items():
        row = {"method": name, **{key: mean(mean(r[key] for r in unit["rows"]) for unit in found) for key in keys}}
        gains = [
            [a["motion_fidelity"] - b["motion_fidelity"] for a, b in zip(unit["rows"], base["rows"], strict=True)]
            for unit, base in zip(found, units["no adapter"], strict=True)
        ]
        row["motion_fidelity_gain"] = mean(map(mean, gains))
        row["motion_fidelity_gain_interval"] = interval(gains)
        row["train_seconds"] = mean(unit.get("train_seconds", 0.0) for unit in found)
        row["parameters"] = found[0].get("parameters", 0)
        rows.append(row)
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return {"machine": machine, "torch": torch.__version__, "motions": len(motions), "rows": rows}


def table(result: dict) -> str:
    lines = [
        "| method | motion fidelity | edit fidelity | consistency | leakage | MF gain [95%] | parameters | train s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, high = row["motion_fidelity_gain_interval"]
        scores = " | ".join(
            f"{row[key]:.3f}" for key in ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage")
        )
        gain = f"{row['motion_fidelity_gain']:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {row['method']} | {scores} | {gain} | {row['parameters']} | {row['train_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="only print the tables of what is there")
    parser.add_argument("--quick", action="store_true", help="one motion, two prompts, one seed, 10 steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="another embedded DiT than the shipped one")
    parser.add_argument("--only", nargs="+", help="only these variants and baselines, by name")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    budget = Budget(motions=(0,), prompts=2, seeds=SEEDS[:1], steps=10) if args.quick else Budget()
    if not args.report:
        from det_core.tiny.model import TinyModel

        model = EmbeddedModel(tiny=TinyModel.load(args.weights) if args.weights else None)
        for index in budget.motions:
            unit = Unit(model, index, budget)
            base = result_path(args.out, "no adapter", index)
            if not base.exists():
                write(base, {"rows": unit.score([])})
            for name in BASELINES:
                if args.only is None or name in args.only:
                    run_baseline(unit, name, args.out)
            for variant in VARIANTS:
                if args.only is None or variant.name in args.only:
                    run_variant(unit, variant, args.out)
                    print("done", variant.name, FAMILIES[index], flush=True)
    result = report(args.out)
    write(args.out / "report.json", result)
    print(table(result))


if __name__ == "__main__":
    main()

"""`bench`: methods over a benchmark, and a report."""

from __future__ import annotations

import argparse
import logging
import shutil
from functools import partial
from pathlib import Path

from .. import __version__
from ..bench import check_installed
from ..bench.adapters import DET
from ..bench.methods import NAMES, Methods, MethodSettings, check_first_frame, check_methods, learnable
from ..bench.runner import run_bench
from ..bench.sprite_cases import write_sprite_cases
from ..bench.world_cases import write_world_cases
from ..models.base_model import EMBEDDED, EMBEDDED_WORLD, base_model_spec
from ..models.families import DiTSpec
from ..source import check_tracker
from .arguments import add_device_argument, add_feature_arguments, count

HELP = "run methods over a benchmark and write a report"
OWN_KIND = {EMBEDDED: write_sprite_cases, EMBEDDED_WORLD: write_world_cases}  # --data: cases drawn for a model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bench`; run it with `run`."""
    parser.add_argument(
        "--data",
        default=EMBEDDED,
        help="benchmark folder; embedded (default) or embedded-world makes --cases clips of that model's kind, "
        "embedded-world in the four categories of MotionBench",
    )
    parser.add_argument(
        "--cases", type=count, default=6, help="how many, with --data embedded or embedded-world (default 6)"
    )
    parser.add_argument(
        "--model", default="embedded", help="embedded (default), embedded-world or a local diffusers folder"
    )
    parser.add_argument(
        "--methods",
        default="none,frozen,lora,det",
        help=f"comma-separated, of {', '.join(NAMES)}; or all that can learn there (default none, frozen, lora, det)",
    )
    parser.add_argument("--seeds", type=count, default=3, help="seeds per prompt, 0 .. SEEDS-1 (default 3)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run continues there")
    parser.add_argument("--steps", type=count, help="of every training; default: each method's own for this model")
    parser.add_argument("--sample-steps", type=count, help="denoising steps; default: the base model's own")
    parser.add_argument(
        "--first-frame", action="store_true", help="give every video its case's first frame, with embedded-world"
    )
    parser.add_argument(
        "--tracker", default="auto", help="auto (a case's own tracks where it has some), cotracker, dis, lk"
    )
    add_feature_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: host:port, ray://host:port or auto")


def run(args: argparse.Namespace) -> None:
    """Check the arguments, run what is missing, print where the report is.

    Raises: ValueError, one line, for arguments or folders that cannot be used.
    """
    check_installed()
    methods = list(dict.fromkeys(name.strip() for name in args.methods.split(",") if name.strip()))
    unknown = [name for name in methods if name not in NAMES and methods != ["all"]]
    if unknown or not methods:
        raise ValueError(
            f"--methods {args.methods}: {', '.join(unknown) or 'nothing'} is no method; use {', '.join(NAMES)}, or all"
        )
    spec = base_model_spec(args.model)
    methods = learnable(spec) if methods == ["all"] else methods
    check_before_claiming(args, spec, methods)
    data, out, extra = Path(args.data).resolve(), args.out.resolve(), {}
    if args.data in OWN_KIND:
        data = out / "data"
        if not data.is_dir():
            unfinished = out / ".data"  # takes its name once all cases are there
            shutil.rmtree(unfinished, ignore_errors=True)
            OWN_KIND[args.data](unfinished, args.cases)
            unfinished.rename(data)
        extra = {"cases": args.cases, **({} if args.data == EMBEDDED else {"kind": args.data})}
    text = {name: str(value.resolve()) for name, value in (("clip", args.clip), ("dino", args.dino)) if value}
    given = {"first_frame": True} if args.first_frame else {}
    settings = {"steps": args.steps, "sample_steps": args.sample_steps, "tracker": args.tracker, **text, **given}
    model = args.model if args.model in OWN_KIND else str(Path(args.model).resolve())
    made = MethodSettings(model=model, out=str(out), device=args.device, **settings)
    if spec.family.of_world and DET.keys() & set(methods):
        extra["mid_dim"] = spec.defaults.mid_dim  # was 32 once: folders of then are another configuration
    config = {"model": args.model, **extra, **settings, "version": __version__}
    seeds, build = range(args.seeds), partial(Methods, made)
    result = run_bench(data, out, methods, seeds, build, config, ray=args.ray, on_gpus=args.device != "cpu")
    print(result.markdown.read_text(encoding="utf-8").split("## How to read")[0])
    print(f"{result.html}\n{result.markdown}")
    if result.failed:
        logging.warning("%d units are unfinished, see the report; run the same command again", len(result.failed))


def check_before_claiming(args: argparse.Namespace, spec: DiTSpec, methods: list[str]) -> None:
    """Refuse what no unit could be run with, before the folder is taken for it."""
    check_methods(spec, methods)
    check_tracker(args.tracker, spec)
    if args.first_frame:
        check_first_frame(spec, args.model)

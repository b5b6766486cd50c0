"""`train`: a motion adapter of one video."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..learn import train_on
from ..models.base_model import base_model_spec, load_base_model
from ..source import load_source
from ..training.presets import PRESETS
from . import checks
from .arguments import add_model_arguments, add_source_arguments, add_train_arguments
from .progress import Progress

HELP = "train a motion adapter on one video"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    add_model_arguments(parser)
    add_train_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="adapter file (.safetensors)")


def run(args: argparse.Namespace) -> None:
    out = checks.file_to_write(args.out, ".safetensors")
    compute, spec = checks.compute_for(args), base_model_spec(args.model)
    config = checks.train_config(args, spec, compute)
    checks.check_earlier_run(out, config, args.resume)
    source = load_source(checks.source_files(args), spec, device=compute.device, seed=args.seed[0])

    model = load_base_model(args.model, compute, low_vram=PRESETS[args.preset].low_vram)
    with Progress() as progress:
        result = train_on(
            model, source, source.caption or args.caption, config, out, resume=args.resume, on_step=progress.training
        )
    print(f"{out}: trained for {len(result.losses['total'])} steps")

"""`evaluate`: how well one video follows another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..files import write_json
from ..measure import evaluate_files
from . import checks
from .arguments import add_feature_arguments, add_tracking_arguments

HELP = "measure how well one video follows the motion of another"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="source video, or its tracks (.safetensors, .npz)")
    parser.add_argument("--generated", type=Path, required=True, help="generated video, or its tracks")
    add_tracking_arguments(parser)
    parser.add_argument("--prompt", help="the generated video's prompt, for edit fidelity")
    add_feature_arguments(parser)
    parser.add_argument("--out", type=Path, help="write the scores to this JSON file as well")


def run(args: argparse.Namespace) -> None:
    out = args.out and checks.file_to_write(args.out, ".json")
    tools = {name: getattr(args, name) for name in ("mask", "tracker", "prompt", "clip", "dino")}
    scores = evaluate_files(args.source, args.generated, **tools)
    print(json.dumps(scores, indent=2))
    if out:
        write_json(out, scores)

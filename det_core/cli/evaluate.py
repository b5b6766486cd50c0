"""`evaluate`: how well one video follows another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..files import write_json
from ..measure import TRACK_FILES, evaluate_files
from ..media.rate import LONGER
from . import checks
from .arguments import add_feature_arguments, add_tracking_arguments, rate

HELP = "measure how well one video follows the motion of another"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="source video, or its tracks (.safetensors, .npz)")
    parser.add_argument("--generated", type=Path, required=True, help="generated video, or its tracks")
    add_tracking_arguments(parser)
    parser.add_argument(
        "--fps", type=rate, help="frames per second used of a longer source: what the training was told; not 0"
    )
    parser.add_argument("--longer", choices=LONGER, help="of a longer source; default: as a training without it")
    parser.add_argument("--prompt", help="the generated video's prompt, for edit fidelity")
    add_feature_arguments(parser)
    parser.add_argument("--out", type=Path, help="write the scores to this JSON file as well")


def run(args: argparse.Namespace) -> None:
    out = args.out and checks.file_to_write(args.out, ".json")
    if args.fps == 0:
        raise ValueError("--fps 0 is a model's own rate, and no model is known here: give it as a number")
    if args.mask and args.source.suffix in TRACK_FILES:
        raise ValueError("--mask says what to track, but --source holds tracks: leave out one of them")
    tools = {name: getattr(args, name) for name in ("mask", "tracker", "prompt", "clip", "dino", "fps", "longer")}
    scores = evaluate_files(args.source, args.generated, **tools)
    print(json.dumps(scores, indent=2))
    if out:
        write_json(out, scores)

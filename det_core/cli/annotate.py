"""`annotate`: benchmark cases of your own clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..bench import check_installed
from ..bench.annotate import annotate

HELP = "make benchmark cases of your own clips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos")
    parser.add_argument(
        "--captions", type=Path, required=True, help='JSON: {"clip": {"caption": "...", "prompts": ["...", ...]}}'
    )
    parser.add_argument(
        "--masks", type=Path, help="folder of <clip>.png; without one the subject is found by its motion"
    )
    parser.add_argument("--tracker", default="auto", help="auto, cotracker, dis or lk")
    parser.add_argument("--device", default="cpu", help="where a tracker network runs (default cpu)")
    parser.add_argument("--out", type=Path, required=True, help="benchmark folder to write, for bench --data")


def run(args: argparse.Namespace) -> None:
    """Annotate a folder of clips and print what became of each.

    Raises: ValueError if there are no clips or no captions.
    """
    check_installed()
    cases, bad = annotate(
        args.clips, args.captions, args.out, masks=args.masks, tracker=args.tracker, device=args.device
    )
    for case in cases:
        print(f"{case.name}: {case.difficulty} ({case.clusters} clusters of tracks), {len(case.prompts)} prompts")
    for case in bad:
        print(f"{case.name}: left out: {case.reason}")
    print(f"{len(cases)} cases in {args.out}, {len(bad)} left out")

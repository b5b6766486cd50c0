"""`transfer`: the whole job."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from ..files import check_writable
from ..measure import METRICS, ruler_for
from ..models.base_model import base_model_spec, load_base_model
from ..source import load_source
from ..training.presets import PRESETS
from ..transfer import ADAPTER, WITHOUT, TransferJob, transfer
from . import checks
from .arguments import (
    add_feature_arguments,
    add_model_arguments,
    add_sample_arguments,
    add_source_arguments,
    add_train_arguments,
)
from .progress import Progress

HELP = "the whole job: track, train, sample with and without, measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    add_model_arguments(parser)
    add_train_arguments(parser)
    add_sample_arguments(parser)
    add_feature_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")


def run(args: argparse.Namespace) -> None:
    prompts, seeds = checks.distinct(args)
    compute, spec = checks.compute_for(args), base_model_spec(args.model)
    checks.warn_of_unused(args, spec)
    config, sampling = checks.train_config(args, spec, compute), checks.sampling(args, spec)
    check_writable(args.out)
    checks.check_earlier_run(args.out / ADAPTER, config, args.resume)
    started = time.monotonic()
    source = load_source(checks.source_files(args), spec, device=compute.device, seed=seeds[0])
    track_seconds = time.monotonic() - started
    logging.info("tracked %d points with %s", len(source.tracks), source.tracks.tracker)

    model = load_base_model(args.model, compute, low_vram=PRESETS[args.preset].low_vram)
    job = TransferJob(source, source.caption or args.caption, prompts, seeds, args.out, config, sampling, args.resume)
    with Progress() as progress:
        metrics = transfer(
            model,
            job,
            ruler_for(model, args.clip, args.dino),
            track_seconds=track_seconds,
            on_train=progress.training,
            on_sample=progress.sampling,
        )
    print_metrics(metrics, args.out)


def print_metrics(metrics: dict, out: Path) -> None:
    """The result in a terminal: where things are and the mean scores."""
    print(f"\n{'':22}{'motion fidelity':>17}{'coverage':>11}{'edit fidelity':>15}{'consistency':>13}")
    for name, label in (("base", "without adapter"), ("det", "with the adapter")):
        values = [metrics["mean"][name][metric] for metric in METRICS]
        cells = ["not measured" if value is None else f"{value:.3f}" for value in values]
        print(f"{label:22}{cells[0]:>17}{cells[1]:>11}{cells[2]:>15}{cells[3]:>13}")
    missing = [row for video in metrics["prompts"] for row in video.get("not_measured", {}).values()]
    for reason in sorted({reason for row in missing for reason in row.values()}):
        print(f"not measured: {reason}")
    print(f"\ntook {metrics['seconds']['total']:.0f} s (training {metrics['seconds']['train']:.0f} s)")
    for file, what in (
        ("contact_sheet.png", "source, without adapter, with adapter"),
        ("*.mp4", "one video a prompt and seed; tracks.mp4 shows the tracked points"),
        (f"{WITHOUT}/*.mp4", "the same prompts and seeds without it"),
        ("metrics.json", "all scores"),
        (ADAPTER, "the motion, ready for other prompts"),
    ):
        print(f"  {out / file}: {what}")

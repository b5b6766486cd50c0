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
from ..transfer import ADAPTER, DET, GUIDE, GUIDED, REFERENCE, TransferJob, transfer
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
    parser.add_argument(
        "--guide",
        nargs="?",
        choices=GUIDE,
        const=GUIDE[0],
        help="guide the sampling by the source instead of training an adapter; beside: do both and compare",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")


def run(args: argparse.Namespace) -> None:
    prompts, seeds = checks.distinct(args)
    compute, spec = checks.compute_for(args), base_model_spec(args.model)
    checks.warn_of_unused(args, spec)
    config, sampling = checks.train_config(args, spec, compute), checks.sampling(args, spec)
    check_writable(args.out)
    if args.guide == "only":
        checks.warn_of_no_training(args)
    else:
        checks.check_earlier_run(args.out / ADAPTER, config, args.resume)
    started = time.monotonic()
    source = load_source(checks.source_files(args), spec, device=compute.device, seed=seeds[0])
    track_seconds = time.monotonic() - started
    logging.info("tracked %d points with %s", len(source.tracks), source.tracks.tracker)

    model = load_base_model(args.model, compute, low_vram=PRESETS[args.preset].low_vram)
    caption = source.caption or args.caption
    job = TransferJob(source, caption, prompts, seeds, args.out, config, sampling, args.resume, args.guide)
    with Progress() as progress:
        metrics = transfer(
            model,
            job,
            ruler_for(model, args.clip, args.dino),
            track_seconds=track_seconds,
            on_train=progress.training,
            on_sample=progress.sampling,
        )
    print_metrics(metrics, job)


def print_metrics(metrics: dict, job: TransferJob) -> None:
    """The result in a terminal: where things are and the mean scores."""
    print(f"\n{'':24}{'motion fidelity':>17}{'coverage':>11}{'edit fidelity':>15}{'consistency':>13}")
    for row in job.rows:
        values = [metrics["mean"][row.name][metric] for metric in METRICS]
        cells = ["not measured" if value is None else f"{value:.3f}" for value in values]
        print(f"{row.label:24}{cells[0]:>17}{cells[1]:>11}{cells[2]:>15}{cells[3]:>13}")
    missing = [row for video in metrics["prompts"] for row in video.get("not_measured", {}).values()]
    for reason in sorted({reason for row in missing for reason in row.values()}):
        print(f"not measured: {reason}")
    print(f"\ntook {metrics['seconds']['total']:.0f} s (training {metrics['seconds']['train']:.0f} s)")
    files = [
        ("contact_sheet.png", f"source, {', '.join(row.label for row in job.rows)}"),
        ("*.mp4", "one video a prompt and seed; tracks.mp4 shows the tracked points"),
        *((f"{row.folder}/*.mp4", f"the same prompts and seeds {row.label}") for row in job.rows[:-1]),
        ("metrics.json", "all scores"),
        *([(ADAPTER, "the motion, ready for other prompts")] if DET in job.rows else []),
        *([(REFERENCE, "the motion, for guidance")] if GUIDED in job.rows else []),
    ]
    for file, what in files:
        print(f"  {job.out / file}: {what}")

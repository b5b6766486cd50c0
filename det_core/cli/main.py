"""`python -m det_core`: transfer, track, train, sample, evaluate, bench, annotate.

Every command checks all it is given before it starts to work; a mistake is answered in one line.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .arguments import add_model_arguments, add_sample_arguments, add_source_arguments, add_train_arguments

DESCRIPTION = "Learn the motion of one video and replay it on any subject and scene that a prompt asks for."


class Stopped(Exception):
    """The user pressed Ctrl-C; raised between two training steps."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 after a one-line error, 130 after Ctrl-C."""
    parser = build_parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "diffusers", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        args.command(args)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except (Stopped, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    from .bench import add_annotate_arguments, add_arguments, run, run_annotate

    parser = argparse.ArgumentParser(prog="python -m det_core", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("transfer", help="the whole job: track, train, sample with and without, measure")
    add_source_arguments(command)
    add_model_arguments(command)
    add_train_arguments(command)
    add_sample_arguments(command)
    command.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    command.set_defaults(command=run_transfer)

    command = commands.add_parser("track", help="track the moving subject of a video")
    command.add_argument("--video", type=Path, required=True, help="the video")
    command.add_argument(
        "--mask", type=Path, help="picture of the moving subject, white on black; without it motion finds it"
    )
    command.add_argument("--tracker", default="auto", help="auto, cotracker, dis or lk")
    command.add_argument("--device", help="cpu, cuda, mps; default: the fastest there is")
    command.add_argument("--seed", type=int, default=0, help="draws the points (default 0)")
    command.add_argument(
        "--out", type=Path, required=True, help="tracks file (.safetensors or .npz); drawn beside it as .mp4"
    )
    command.set_defaults(command=run_track)

    command = commands.add_parser("train", help="train a motion adapter on one video")
    add_source_arguments(command)
    add_model_arguments(command)
    add_train_arguments(command)
    command.add_argument("--out", type=Path, required=True, help="adapter file (.safetensors)")
    command.set_defaults(command=run_train)

    command = commands.add_parser("sample", help="generate videos with a trained adapter")
    command.add_argument(
        "--adapter", type=Path, required=True, help="adapter file (.safetensors, or the reference code's .pth)"
    )
    add_model_arguments(command)
    add_sample_arguments(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the videos")
    command.set_defaults(command=run_sample)

    command = commands.add_parser("evaluate", help="measure how well one video follows the motion of another")
    command.add_argument("--source", type=Path, required=True, help="source video, or its tracks (.safetensors, .npz)")
    command.add_argument("--generated", type=Path, required=True, help="generated video, or its tracks")
    command.add_argument("--mask", type=Path, help="mask of the source's moving subject")
    command.add_argument("--tracker", default="auto", help="auto, cotracker, dis or lk")
    command.add_argument("--prompt", help="the generated video's prompt, for edit fidelity")
    command.add_argument("--clip", type=Path, help="local CLIP folder, for edit fidelity")
    command.add_argument("--dino", type=Path, help="local DINO folder, for temporal consistency")
    command.add_argument("--out", type=Path, help="write the scores to this JSON file as well")
    command.set_defaults(command=run_evaluate)

    command = commands.add_parser("bench", help="run methods over a benchmark and write a report")
    add_arguments(command)
    command.set_defaults(command=run)

    command = commands.add_parser("annotate", help="make benchmark cases of your own clips")
    add_annotate_arguments(command)
    command.set_defaults(command=run_annotate)
    return parser


# ------------------------------------------------------------------------------------------- shared pieces


def _load_model(args):
    from ..models.base_model import load_base_model
    from ..models.compute.precision import Compute
    from ..training.presets import PRESETS

    compute = Compute.on(args.device)
    logging.info("computing on %s: %s", compute.device, compute.reason)
    return load_base_model(args.model, compute, low_vram=PRESETS[getattr(args, "preset", "paper")].low_vram)


def _load_source(args, model):
    """The tracked source and the seconds it took."""
    from ..source import SourceFiles, load_source

    started = time.monotonic()
    files = SourceFiles(args.video, args.mask, args.tracks, args.tracker, args.frames, _size(args.size))
    source = load_source(files, model.denoiser.spec, device=model.denoiser.device, seed=args.seed[0])
    return source, time.monotonic() - started


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ValueError(f'--size is HEIGHTxWIDTH, such as 480x720; got "{text}"')
    return int(height), int(width)


def _keep(args, spec) -> list[int] | None:
    """The kept blocks that --keep or --drop ask for; None leaves it to the adapter."""
    from ..models.families import kept_blocks, parse_blocks

    if args.keep is not None:
        return parse_blocks(args.keep, spec.num_blocks)
    if args.drop is None:
        return None
    if not 0 <= args.drop <= 1:
        raise ValueError(f"--drop is a share between 0 (keep every block) and 1 (drop all); got {args.drop}")
    return kept_blocks(spec.num_blocks, args.drop)


def _config(args, model):
    from ..training.presets import preset_config

    changes = {"seed": args.seed[0], "bf16": model.denoiser.bf16}
    for name in ("steps", "checkpoint"):
        if getattr(args, name) is not None:
            changes[name] = getattr(args, name)
    return preset_config(args.preset, model.denoiser.spec, **changes)


def _check_writable(path: Path) -> None:
    """Fail now rather than after the work: make the folder and a file in it."""
    from ..files import atomic_write

    probe = path / ".writable"
    with atomic_write(probe):
        pass
    probe.unlink()


@contextmanager
def _training_bar(config) -> Iterator[Callable]:
    """A progress bar with time left; the first Ctrl-C lets the running step finish and raises `Stopped` after it."""
    from tqdm import tqdm

    stop = False

    def on_signal(*_):
        nonlocal stop
        if stop:
            raise KeyboardInterrupt
        stop = True

    earlier = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tqdm(total=config.steps, desc="training", unit="step", file=sys.stderr) as bar:

            def on_step(run, losses) -> None:
                bar.update(run.step - bar.n)
                bar.set_postfix(
                    {name: f"{value:.4f}" for name, value in losses.items() if value == value}, refresh=False
                )
                if stop:
                    raise Stopped

            yield on_step
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def _sampling_bar(batches: int, steps: int) -> Iterator[Callable]:
    from tqdm import tqdm

    with tqdm(total=batches * steps, desc="sampling", unit="step", file=sys.stderr) as bar:
        yield lambda _done, _total: bar.update()


# ------------------------------------------------------------------------------------------- commands


def run_transfer(args) -> None:
    from ..measure import ruler_for
    from ..transfer import TransferJob, transfer

    _check_writable(args.out)
    model = _load_model(args)
    spec = model.denoiser.spec
    keep, config = _keep(args, spec), _config(args, model)
    if spec.caution:
        logging.warning("%s", spec.caution)
    source, track_seconds = _load_source(args, model)
    logging.info("tracked %d points with %s", len(source.tracks), source.tracks.tracker)
    job = TransferJob(
        source,
        args.caption,
        args.prompt,
        args.seed,
        args.out,
        config,
        keep,
        args.strength,
        args.sample_steps,
        args.cfg,
        args.resume,
    )
    videos = 2 * len(args.prompt) * len(args.seed)
    batches = 2 * -(-videos // 2 // 4) if model.name == "embedded" else videos
    with (
        _training_bar(config) as on_train,
        _sampling_bar(batches, args.sample_steps or spec.defaults.sample_steps) as on_sample,
    ):
        metrics = transfer(
            model,
            job,
            ruler_for(model, args.clip, args.dino),
            track_seconds=track_seconds,
            on_train=on_train,
            on_sample=on_sample,
        )
    print_metrics(metrics, args.out)


def print_metrics(metrics: dict, out: Path) -> None:
    """The result in a terminal: where things are and the mean scores."""
    rows = metrics["mean"]
    print(f"\n{'':22}{'motion fidelity':>17}{'edit fidelity':>15}{'consistency':>13}")
    for name, label in (("base", "without adapter"), ("det", "with the adapter")):
        cells = [rows[name][k] for k in ("motion_fidelity", "edit_fidelity", "temporal_consistency")]
        widths = (17, 15, 13)
        print(
            f"{label:22}"
            + "".join(f"{'not measured' if c is None else f'{c:.3f}':>{w}}" for c, w in zip(cells, widths, strict=True))
        )
    print(f"\ntook {metrics['seconds']['total']:.0f} s (training {metrics['seconds']['train']:.0f} s)")
    for file, what in (
        ("contact_sheet.png", "source, without adapter, with adapter"),
        ("*.mp4", "one video a prompt and seed; tracks.mp4 shows the tracked points"),
        ("metrics.json", "all scores"),
        ("adapter.safetensors", "the motion, ready for other prompts"),
    ):
        print(f"  {out / file}: {what}")


def run_track(args) -> None:
    from ..media.video import read_video, write_video
    from ..models.compute.precision import Compute
    from ..tracking.draw import draw_tracks
    from ..tracking.subject import track_subject

    if args.out.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"--out {args.out}: a tracks file ends in .safetensors or .npz")
    _check_writable(args.out.parent)
    clip = read_video(args.video)
    started = time.monotonic()
    tracks = track_subject(
        clip.frames, args.mask, tracker=args.tracker, device=str(Compute.on(args.device).device), seed=args.seed
    )
    seconds = time.monotonic() - started
    tracks.save(args.out)
    drawn = args.out.with_suffix(".mp4")
    write_video(drawn, draw_tracks(clip.frames, tracks), clip.fps)
    print(f"{args.out}: {len(tracks)} points over {tracks.frames} frames ({tracks.tracker}, {seconds:.1f} s)")
    print(f"{drawn}: the same, drawn")


def run_train(args) -> None:
    from ..transfer import train_on

    _check_writable(args.out.parent)
    model = _load_model(args)
    config = _config(args, model)
    if model.denoiser.spec.caution:
        logging.warning("%s", model.denoiser.spec.caution)
    source, _ = _load_source(args, model)
    with _training_bar(config) as on_step:
        train_on(model, source, args.caption, config, args.out, resume=args.resume, on_step=on_step)
    print(f"{args.out}: trained for {config.steps} steps")


def run_sample(args) -> None:
    from ..adapter.attach import attach
    from ..adapter.motion_adapter import MotionAdapter
    from ..media.video import write_video
    from ..transfer import generate, latent_shape, slug

    _check_writable(args.out)
    reference = args.adapter.suffix == ".pth"
    adapter = MotionAdapter.from_reference(args.adapter) if reference else MotionAdapter.load(args.adapter)
    model = _load_model(args)
    spec = model.denoiser.spec
    keep = _keep(args, spec)
    with attach(model.denoiser.transformer, adapter, keep=keep):
        pass  # an adapter of another model is refused here, before any work
    source = json.loads(adapter.metadata.get("source", "{}"))
    frames = args.frames or source.get("frames", spec.defaults.frames)
    height, width = _size(args.size) or tuple(source.get("size", (spec.defaults.height, spec.defaults.width)))
    latent = latent_shape(model, frames, height, width)
    with _sampling_bar(len(args.prompt) * len(args.seed), args.sample_steps or spec.defaults.sample_steps) as on_step:
        videos = generate(
            model, adapter.to(model.denoiser.device), args.prompt, args.seed, latent,
            keep=keep, strength=args.strength, steps=args.sample_steps, cfg=args.cfg, on_step=on_step,
        )  # fmt: skip
    for (prompt, seed), video in zip([(p, s) for p in args.prompt for s in args.seed], videos, strict=True):
        path = args.out / f"{slug(prompt)}-seed{seed}.mp4"
        write_video(path, video, source.get("fps", 8.0))
        print(path)


def run_evaluate(args) -> None:
    from ..evaluate import evaluate_files
    from ..files import atomic_write

    scores = evaluate_files(
        args.source,
        args.generated,
        mask=args.mask,
        tracker=args.tracker,
        prompt=args.prompt,
        clip=args.clip,
        dino=args.dino,
    )
    text = json.dumps(scores, indent=2)
    print(text)
    if args.out:
        with atomic_write(args.out) as temporary:
            temporary.write_text(text + "\n")

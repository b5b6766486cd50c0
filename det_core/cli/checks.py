"""What commands ask of their arguments together, before anything is loaded: each answers with what is meant, or refuses
in one line."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..adapter.motion_adapter import MotionAdapter
from ..files import check_name, check_writable
from ..models.compute.precision import Compute
from ..models.families import DiTSpec, kept_blocks, parse_blocks
from ..models.generate import Sampling
from ..models.noise import span_of
from ..source import SourceFiles
from ..training.loop import TrainConfig, check_resumable
from ..training.presets import PRESETS, preset_config
from ..training.state import TrainState, states_of

log = logging.getLogger(__name__)


def compute_for(args: argparse.Namespace) -> Compute:
    """Where, and in which number format."""
    compute = Compute.on(args.device)
    log.info("computing on %s: %s", compute.device, compute.reason)
    return compute


def source_files(args: argparse.Namespace) -> SourceFiles:
    return SourceFiles(
        args.video, args.mask, args.tracks, args.tracker, args.frames, args.size, args.carry, args.fps, args.longer
    )


def train_config(args: argparse.Namespace, spec: DiTSpec, compute: Compute) -> TrainConfig:
    """The preset's, with what was asked for."""
    asked = {name: getattr(args, name) for name in ("steps", "checkpoint") if getattr(args, name) is not None}
    _, span = span_of(args.noise_range, boundary=spec.boundary)
    if PRESETS[args.preset].low_vram and args.checkpoint not in (None, "auto", "full"):
        raise ValueError(
            f"--preset {args.preset} computes every block again, or all their weights would stay on the GPU: leave out "
            f"--checkpoint {args.checkpoint}"
        )
    if spec.caution:
        log.warning("%s", spec.caution)
    return preset_config(
        args.preset, spec, seed=args.seed[0], bf16=compute.bf16, noise=args.noise, noise_span=span, **asked
    )


def sampling(args: argparse.Namespace, spec: DiTSpec, adapter: MotionAdapter | None = None) -> Sampling:
    """Of --keep and --drop, None leaves the blocks to the adapter; --drop keeps those of the rest that it has.

    adapter: the one that is there already; None: one of every block.
    """
    keep = None
    if args.keep is not None:
        keep = parse_blocks(args.keep, spec.num_blocks)
    elif args.drop is not None:
        keep = kept_blocks(spec.num_blocks, args.drop)
        keep = keep if adapter is None else [block for block in keep if block in adapter.kernels]
    if adapter is not None:
        adapter.kernels_for(spec, keep)  # refuses blocks that it has not
    return Sampling(args.sample_steps, args.cfg, keep, args.strength)


def distinct(args: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Prompts and seeds, each once."""
    prompts, seeds = list(dict.fromkeys(args.prompt)), list(dict.fromkeys(args.seed))
    if (len(prompts), len(seeds)) != (len(args.prompt), len(args.seed)):
        log.warning("prompts and seeds that are given twice count once")
    return prompts, seeds


def file_to_write(path: Path, *suffixes: str) -> Path:
    """`path`, if a file of one of these kinds can be written there.

    Raises: ValueError for another ending, a folder, or a name that files cannot have; OSError for a folder that cannot
        be written to.
    """
    kinds = " or ".join(suffixes)
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder: name a file in it that ends in {kinds}")
    if path.suffix not in suffixes:
        raise ValueError(f"--out {path}: the file that is written ends in {kinds}")
    check_name(path.name)
    check_writable(path.parent)
    return path


def check_earlier_run(adapter: Path, config: TrainConfig, resume: bool) -> None:
    """Look at what an earlier training of this adapter file has left.

    Raises: ValueError if it is to be resumed with other settings or to fewer steps than it has done, or is damaged.
    """
    states = states_of(adapter)
    if not states:
        if resume:
            log.warning("nothing to resume: there is no training of %s yet, so it starts anew", adapter)
        return
    if len(states) > 1:
        return  # of several sources: which one is meant is known once this one is encoded
    if resume:
        earlier = TrainState.load(states[0])
        check_resumable(earlier, config)
        if earlier.step > config.steps:
            raise ValueError(f"--steps {config.steps}: {adapter} has done {earlier.step} steps: give as many or more")
    elif (step := _unfinished(states[0])) is not None:
        log.warning(
            "an unfinished training of %s is there, at step %d: it is replaced; --resume would continue it",
            adapter,
            step,
        )


def _unfinished(state: Path) -> int | None:
    """The step at which a training stopped; None if it was finished, or its state cannot be read."""
    try:
        found = TrainState.load(state)
    except ValueError:
        return None
    return found.step if found.step < found.config.get("steps", 0) else None


def load_adapter(path: Path, spec: DiTSpec) -> MotionAdapter:
    """The adapter in a file, of ours or of the paper's code, if it is for the model `spec`.

    Raises: ValueError if it is damaged, or was made for another model.
    """
    adapter = MotionAdapter.from_reference(path, spec) if path.suffix == ".pth" else MotionAdapter.load(path)
    adapter.kernels_for(spec)
    return adapter


def warn_of_no_training(args: argparse.Namespace) -> None:
    """Say which arguments do nothing where the source only guides."""
    given = {
        "--resume": args.resume, "--steps": args.steps, "--checkpoint": args.checkpoint, "--keep": args.keep,
        "--drop": args.drop is not None, "--strength": args.strength != 1, "--noise": args.noise != "uniform",
        "--noise-range": args.noise_range != "auto",
        "--preset": args.preset != "paper" and not PRESETS[args.preset].low_vram,
    }  # fmt: skip
    idle = [name for name, value in given.items() if value]
    if idle:
        log.warning("%s: not used, nothing is trained", ", ".join(idle))


def warn_of_unused(args: argparse.Namespace, spec: DiTSpec) -> None:
    """Say what the embedded model does not need."""
    for name in ("clip", "dino"):
        if getattr(args, name) is not None and spec.family.of_sprites:
            log.warning("--%s is not used: videos of the embedded model are read exactly, without a network", name)

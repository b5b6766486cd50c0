"""Groups of command-line arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..models.base_model import EMBEDDED
from ..models.compute.checkpointing import POLICIES
from ..training.presets import PRESETS


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The video and how its subject is found and tracked."""
    parser.add_argument("--video", type=Path, required=True, help="source video")
    parser.add_argument(
        "--mask", type=Path, help="picture of the moving subject, white on black; without it motion finds it"
    )
    parser.add_argument("--tracks", type=Path, help="your own tracks over the whole video, instead of a tracker")
    parser.add_argument(
        "--tracker", default="auto", help="auto, cotracker, dis, lk; sprite for the embedded model's clips"
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The base model, its device, size and seeds."""
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        help="embedded (default) or a local diffusers folder: CogVideoX, HunyuanVideo, Wan, LTX",
    )
    parser.add_argument("--device", help="cpu, cuda, mps; default: the fastest there is")
    parser.add_argument("--frames", type=int, help="frames of the video; default: the model's own")
    parser.add_argument("--size", help="HEIGHTxWIDTH in pixels; default: the model's own")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="one seed or several; the first one trains (default 0)"
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """What training needs to know."""
    parser.add_argument("--caption", default="", help="what the source video shows (its motion need not be named)")
    parser.add_argument("--preset", choices=PRESETS, default="paper", help=f"how to train: {_presets()}")
    parser.add_argument("--steps", type=int, help="training steps; default: the preset's (paper: as in the paper)")
    parser.add_argument(
        "--checkpoint",
        choices=("auto", *POLICIES),
        help="what blocks keep for backward, from fast to small: none, attention, full; default: the fastest that fits",
    )
    parser.add_argument("--resume", action="store_true", help="continue an earlier, unfinished run of the same job")


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Prompts, and how much of the adapter acts."""
    parser.add_argument(
        "--prompt", action="append", required=True, help="what the new video shows; may be given several times"
    )
    parser.add_argument(
        "--drop", type=float, help="share of the blocks, from the last, that lose their kernel (paper: 0.65)"
    )
    parser.add_argument("--keep", help='blocks that keep their kernel, instead of --drop: "0-14, 20"')
    parser.add_argument("--strength", type=float, default=1.0, help="factor on what the kernels add (default 1)")
    parser.add_argument("--sample-steps", type=int, help="denoising steps; default: the base model's own")
    parser.add_argument(
        "--cfg", type=float, help="guidance scale, which HunyuanVideo is told; default: the base model's own"
    )
    parser.add_argument("--clip", type=Path, help="local CLIP folder, to measure edit fidelity on real videos")
    parser.add_argument("--dino", type=Path, help="local DINO folder, to measure temporal consistency on real videos")


def _presets() -> str:
    return "; ".join(f"{name}, {preset.summary}" for name, preset in PRESETS.items())

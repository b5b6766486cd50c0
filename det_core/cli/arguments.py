"""What the commands' arguments look like: types that refuse what cannot be right, and groups that commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NoReturn

import torch

from ..media.rate import LONGER
from ..metrics.features import ClipFeatures, VisionFeatures
from ..models.base_model import EMBEDDED
from ..models.compute.checkpointing import POLICIES
from ..models.noise import NOISES, SPANS
from ..source import CARRY
from ..training.presets import PRESETS


class Parser(argparse.ArgumentParser):
    """Answers a mistake in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} ({self.prog} --help says more)")


# ------------------------------------------------------------------------------------------- types


def refused(text: str, what: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f'"{text}" is not {what}')


def count(text: str) -> int:
    """1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise refused(text, "a whole number of 1 or more")
    return int(text)


def seed(text: str) -> int:
    """What torch takes."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise refused(text, "a whole number from 0 to 2^63 - 1")
    return int(text)


def number(text: str) -> float:
    """Any finite number."""
    try:
        value = float(text)
    except ValueError:
        raise refused(text, "a number") from None
    if not math.isfinite(value):
        raise refused(text, "a finite number")
    return value


def guidance(text: str) -> float:
    """Finite, 0 or more."""
    if (value := number(text)) < 0:
        raise refused(text, "a guidance scale: it is 0 or more, 1 is none")
    return value


def rate(text: str) -> float:
    """Frames per second: 0, the model's own, or more."""
    if not 0 <= (value := number(text)) <= 240:
        raise refused(text, "a number of frames per second, up to 240; 0 is the model's own")
    return value


def share(text: str) -> float:
    """From 0 to 1."""
    if not 0 <= (value := number(text)) <= 1:
        raise refused(text, "a share between 0 (keep every block) and 1 (drop all)")
    return value


def size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise refused(text, "HEIGHTxWIDTH, such as 480x720")
    return int(height), int(width)


def device(text: str) -> str:
    """A device that is there."""
    try:
        found = torch.device(text)
    except RuntimeError:
        raise refused(text, "a device: use cpu, cuda, cuda:1 or mps") from None
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if found.type not in there:
        raise refused(text, "a device that is supported: use cpu, cuda, cuda:1 or mps")
    if (found.index or 0) >= there[found.type]:
        have = ", ".join(kind for kind, devices in there.items() if devices)
        raise argparse.ArgumentTypeError(f"there is no {text} here, only {have}")
    return text


def clip_folder(text: str) -> Path:
    return _features(ClipFeatures, text)


def dino_folder(text: str) -> Path:
    return _features(VisionFeatures, text)


def _features(kind: type[ClipFeatures] | type[VisionFeatures], text: str) -> Path:
    try:
        kind.check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


# ------------------------------------------------------------------------------------------- groups


def add_tracking_arguments(parser: argparse.ArgumentParser, *, sprites: bool = False) -> None:
    """How the subject of a video is found and tracked."""
    parser.add_argument(
        "--mask", type=Path, help="picture of the moving subject, white on black; without it motion finds it"
    )
    also = "; sprite for the embedded model's clips" if sprites else ""
    parser.add_argument("--tracker", default="auto", help=f"auto, cotracker, dis or lk{also}")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=device, help="cpu, cuda, cuda:1, mps; default: the fastest there is")


def add_feature_arguments(parser: argparse.ArgumentParser) -> None:
    """Networks that measure real videos."""
    parser.add_argument("--clip", type=clip_folder, help="local CLIP folder, to measure edit fidelity on real videos")
    parser.add_argument(
        "--dino", type=dino_folder, help="local DINO folder, to measure temporal consistency on real videos"
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The video that is learned from."""
    parser.add_argument("--video", type=Path, required=True, help="source video")
    add_tracking_arguments(parser, sprites=True)
    parser.add_argument("--tracks", type=Path, help="your own tracks over the whole video, instead of a tracker")
    parser.add_argument(
        "--fps",
        type=rate,
        help="frames per second to use of the video; 0: the model's own; no frame is made up; default: every frame, "
        "whatever its rate, as in the paper's code",
    )
    parser.add_argument(
        "--longer",
        choices=LONGER,
        help="a longer video. cut: its first frames are used; thin: every second or third of all, which moves so much "
        "faster; default: one frame in (its length / --frames), as in the paper's code; with --fps: cut",
    )
    parser.add_argument(
        "--carry",
        nargs="?",
        choices=CARRY,
        const=CARRY[0],
        help="a real video on the embedded model: learn from a disc that moves as its subject does in the picture, or "
        "(still) as a camera that rests would have seen it",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The base model, its device, size and seeds."""
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        help="embedded (default), embedded-world or a local folder: CogVideoX, HunyuanVideo, Wan, LTX of diffusers, or "
        "Step-Video-T2V",
    )
    add_device_argument(parser)
    parser.add_argument("--frames", type=count, help="frames of the video; default: the model's own")
    parser.add_argument("--size", type=size, help="HEIGHTxWIDTH in pixels; default: the model's own")
    parser.add_argument(
        "--seed", type=seed, nargs="+", default=[0], help="one seed or several; the first one trains (default 0)"
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """What training needs to know."""
    presets = "; ".join(f"{name}, {preset.summary}" for name, preset in PRESETS.items())
    parser.add_argument("--caption", default="", help="what the source video shows (its motion need not be named)")
    parser.add_argument("--preset", choices=PRESETS, default="paper", help=f"how to train: {presets}")
    parser.add_argument("--steps", type=count, help="training steps; default: the preset's (paper: as in the paper)")
    parser.add_argument(
        "--checkpoint",
        choices=("auto", *POLICIES),
        help="what blocks keep for backward, from fast to small: none, attention, full; default: the fastest that fits",
    )
    parser.add_argument(
        "--noise-range",
        choices=("auto", *SPANS),
        default="auto",
        help="for Wan 2.2: train the expert for high noise or the one for low noise alone; auto (default), all: both",
    )
    parser.add_argument(
        "--noise",
        choices=NOISES,
        default="uniform",
        help='uniform (default): every amount of noise as often, as in the paper; "as sampled": as often as sampling '
        "meets it",
    )
    parser.add_argument("--resume", action="store_true", help="continue an earlier, unfinished run of the same job")


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Prompts, and how much of the adapter acts."""
    parser.add_argument(
        "--prompt", action="append", required=True, help="what the new video shows; may be given several times"
    )
    blocks = parser.add_mutually_exclusive_group()
    blocks.add_argument(
        "--drop", type=share, help="share of the blocks, from the last, that lose their kernel (paper: 0.65)"
    )
    blocks.add_argument("--keep", help='blocks that keep their kernel, instead of --drop: "0-14, 20"')
    parser.add_argument("--strength", type=number, default=1.0, help="factor on what the kernels add (default 1)")
    parser.add_argument("--sample-steps", type=count, help="denoising steps; default: the base model's own")
    parser.add_argument("--cfg", type=guidance, help="guidance scale, which HunyuanVideo is told; default: its own")

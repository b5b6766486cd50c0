"""`sample`: videos with a trained adapter."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..adapter.motion_adapter import MotionAdapter
from ..files import check_writable
from ..media.video import write_video
from ..models.base_model import base_model_spec, load_base_model
from ..models.families import DiTSpec
from ..models.generate import generate, latent_shape
from ..source import model_size
from ..transfer import video_name
from . import checks
from .arguments import add_model_arguments, add_sample_arguments
from .progress import Progress

HELP = "generate videos with a trained adapter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter", type=Path, required=True, help="adapter file (.safetensors, or the reference code's .pth)"
    )
    add_model_arguments(parser)
    add_sample_arguments(parser)
    parser.add_argument(
        "--low-vram",
        action="store_true",
        help="one block's weights on the GPU at a time, as in the preset low_vram",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos")


def run(args: argparse.Namespace) -> None:
    prompts, seeds = checks.distinct(args)
    compute, spec = checks.compute_for(args), base_model_spec(args.model)
    adapter = checks.load_adapter(args.adapter, spec)
    sampling = checks.sampling(args, spec, adapter)
    frames, height, width, fps = _as_its_source(adapter, args, spec)
    check_writable(args.out)

    model = load_base_model(args.model, compute, low_vram=args.low_vram)
    model.encode_prompts([*prompts, ""])  # all at once: the text encoders may be as large as the model
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    shape = latent_shape(model, frames, height, width)
    with Progress() as progress:
        videos = generate(model, adapter.to(model.denoiser.device), jobs, shape, sampling, on_step=progress.sampling)
        for (prompt, seed), video in zip(jobs, videos, strict=True):
            path = args.out / video_name(prompt, seed)
            write_video(path, video, fps)
            print(path)


def _as_its_source(adapter: MotionAdapter, args: argparse.Namespace, spec: DiTSpec) -> tuple[int, int, int, float]:
    """Frames, height, width and frames per second: what was asked for, else those the adapter was trained on, else the
    model's own. Raises: ValueError if the model does not take them."""
    try:
        source = json.loads(adapter.metadata.get("source", "{}"))
        frames = args.frames or int(source.get("frames", spec.defaults.frames))
        own = tuple(int(side) for side in source["size"]) if "size" in source else None
        fps = float(source.get("fps", spec.defaults.fps))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{args.adapter} is damaged: what it says of its source cannot be read: {error}") from None
    spec.frames.check(frames)
    return frames, *model_size(spec, args.size or own), fps

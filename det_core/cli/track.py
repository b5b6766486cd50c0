"""`track`: the tracks of one video, and a picture of them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..media.masks import read_mask
from ..media.video import VideoFile, write_video
from ..models.compute.precision import Compute
from ..tracking.draw import draw_tracks
from ..tracking.subject import track_subject
from ..tracking.trackers import resolve_tracker
from . import checks
from .arguments import add_device_argument, add_tracking_arguments, seed

HELP = "track the moving subject of a video"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--video", type=Path, required=True, help="the video")
    add_tracking_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--seed", type=seed, default=0, help="draws the points (default 0)")
    parser.add_argument(
        "--out", type=Path, required=True, help="tracks file (.safetensors or .npz); drawn beside it as .mp4"
    )


def run(args: argparse.Namespace) -> None:
    out = checks.file_to_write(args.out, ".safetensors", ".npz")
    resolve_tracker(args.tracker)
    clip = VideoFile.open(args.video)
    if args.mask is not None:
        read_mask(args.mask, clip.height, clip.width)
    drawn = out.with_suffix(".mp4")
    if drawn.exists() and drawn.samefile(args.video):
        raise ValueError(f"--out {out}: the drawn tracks would replace the video {args.video}; choose another name")
    device = str(Compute.on(args.device).device)

    frames = clip.read()
    started = time.monotonic()
    tracks = track_subject(frames, args.mask, tracker=args.tracker, device=device, seed=args.seed)
    seconds = time.monotonic() - started
    tracks.save(out)
    print(f"{out}: {len(tracks)} points over {tracks.frames} frames ({tracks.tracker}, {seconds:.1f} s)")
    write_video(drawn, draw_tracks(frames, tracks), clip.fps)
    print(f"{drawn}: the same, drawn")

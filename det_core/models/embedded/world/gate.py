"""Measure embedded model 2: `python -m det_core.models.embedded.world.gate`. Does it draw what it is told?

Prompts are of worlds that training never showed, one object a video and two, from text alone and with a first frame
(of a clip of the same world that training never showed either). Everything is read from the pixels (reader.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from ....files import atomic_write
from ...compute.precision import Compute
from ...sample import sample
from ..corpus import FRAMES
from ..gate import picture
from .base_model import EmbeddedWorld
from .corpus import random_clips
from .model import CHANNELS, WEIGHTS, load_world
from .reader import WorldReading, read_world
from .scene import World

TARGETS = {"colour": 0.95, "background": 0.95, "shape": 0.80, "count": 0.90}  # shares of frames
BATCH = 6


def sample_worlds(
    model: EmbeddedWorld, worlds: list[World], seed: int, first: torch.Tensor | None = None, steps: int | None = None
) -> Iterator[torch.Tensor]:
    """One video (9, 64, 64, 3) a world; `first` (len(worlds), 64, 64, 3) are the frames they shall start with."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(worlds), BATCH):
        group = worlds[start : start + BATCH]
        given = None if first is None else first[start : start + BATCH]
        noise = torch.randn(len(group), CHANNELS, FRAMES, 8, 8, generator=generator)
        cond = model.encode_prompts([world.caption for world in group], given)
        uncond = model.encode_prompts([""] * len(group), given)
        for latents in sample(model.denoiser, cond, uncond, noise, steps=steps):
            yield model.decode_video(latents[None])


def movement(reading: WorldReading) -> tuple[float, float]:
    """(length of the largest object's path, its largest step) in pixels, over frames where it is seen."""
    if not reading.objects:
        return 0.0, 0.0
    steps = reading.objects[0].path.diff(dim=0).norm(dim=-1)
    steps = steps[~steps.isnan()]
    return (steps.sum().item(), steps.max().item()) if len(steps) else (0.0, 0.0)


def measure(videos: list[torch.Tensor], worlds: list[World]) -> dict[str, float]:
    """Shares over all frames of all videos, and how the largest object moves."""
    readings = [read_world(video, fit=False) for video in videos]
    agreements = [reading.agreement(world) for reading, world in zip(readings, worlds, strict=True)]
    moves = [movement(reading) for reading in readings]
    means = {key: sum(a[key] for a in agreements) / len(agreements) for key in TARGETS}
    return {
        **means,
        "path_px": sum(m[0] for m in moves) / len(moves),
        "jumps": sum(m[1] > 0.35 * 64 for m in moves) / len(moves),
    }


def first_frame_psnr(videos: list[torch.Tensor], wanted: torch.Tensor) -> float:
    """dB of the first frames against frames (B, 64, 64, 3), the mean over videos."""
    error = (torch.stack([video[0] for video in videos]) - wanted).pow(2).mean((1, 2, 3))
    return (-10 * error.log10()).mean().item()


def seed_spread(model: EmbeddedWorld, world: World, seeds: int = 6) -> float:
    """Mean distance in pixels between the object of two seeds of one prompt; 0 means that all move alike."""
    readings = [read_world(video, fit=False) for video in sample_worlds(model, [world] * seeds, seed=7)]
    paths = torch.stack([one.objects[0].path for one in readings if one.objects])
    distance = (paths[:, None] - paths[None]).norm(dim=-1)
    return distance[~torch.eye(len(paths), dtype=torch.bool)].nanmean().item()


def main() -> None:
    summary = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m det_core.models.embedded.world.gate", description=summary)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--samples", type=int, default=48, help="videos of each of the four kinds (default 48)")
    parser.add_argument("--picture", type=Path, help="write a PNG of the first 3 videos of each kind here")
    args = parser.parse_args()
    model = EmbeddedWorld(Compute.on(), load_world(args.weights))
    rows, results = [], {}
    for things in (1, 2):
        generator = torch.Generator().manual_seed(things)
        worlds, _, frames = random_clips(args.samples, things, generator, held_out=True)
        for kind, first in (("text", None), ("first_frame", frames[:, 0])):
            videos = list(sample_worlds(model, worlds, seed=0, first=first))
            result = measure(videos, worlds)
            if first is not None:
                codec = model.tiny.codec
                kept = codec.decode(codec.encode(first[:, None]))[:, 0]
                result["first_frame_psnr"] = first_frame_psnr(videos, kept)
            result["passed"] = all(result[key] >= target for key, target in TARGETS.items())
            results[f"{things} object{'s' * (things > 1)}, {kind}"] = result
            rows += videos[:3]
            print(json.dumps({f"{things}, {kind}": result}), flush=True)
    results["seed_spread_px"] = seed_spread(model, worlds[0])
    print(json.dumps(results, indent=2))
    if args.picture:
        with atomic_write(args.picture) as temporary:
            picture(rows).save(temporary)


if __name__ == "__main__":
    main()

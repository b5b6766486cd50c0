"""Measure the embedded DiT itself: `python -m det_core.models.embedded.gate`. Does it draw what it is told,
and does it move?

Prompts are combinations that training never showed. Everything is read from the pixels (reader.py).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from PIL import Image

from ...files import atomic_write
from ..sample import sample
from .base_model import EmbeddedModel, scene_of
from .corpus import FRAMES, SIZE, Scene
from .model import WEIGHTS, TinyModel
from .reader import Reading, read_clip

# share of frames; the sprite must be missing in at most that share
TARGETS = {"colour": 0.95, "background": 0.97, "shape": 0.80, "no_sprite": 0.02}


def sample_scenes(model: EmbeddedModel, scenes: list[Scene], seed: int, batch: int = 8) -> list[torch.Tensor]:
    """One video (9, 64, 64, 3) a scene, with the model's own sampling settings."""
    generator = torch.Generator().manual_seed(seed)
    videos = []
    for start in range(0, len(scenes), batch):
        group = scenes[start : start + batch]
        noise = torch.randn(len(group), 16, FRAMES, 8, 8, generator=generator)
        latents = sample(
            model.denoiser,
            model.encode_prompts([scene.caption for scene in group]),
            model.encode_prompts([""] * len(group)),
            noise,
        )
        videos += [model.decode_video(one[None]) for one in latents]
    return videos


def movement(reading: Reading) -> tuple[float, float]:
    """(length of the path, largest step) in pixels, over frames where the sprite is seen."""
    steps = (reading.centres[1:] - reading.centres[:-1]).norm(dim=-1)
    steps = steps[~steps.isnan()]
    return (steps.sum().item(), steps.max().item()) if len(steps) else (0.0, 0.0)


def measure(videos: list[torch.Tensor], scenes: list[Scene]) -> dict[str, float]:
    """Shares over all frames of all videos, and how the sprites move."""
    readings = [read_clip(video) for video in videos]
    agreements = [reading.agreement(scene) for reading, scene in zip(readings, scenes, strict=True)]
    moves = [movement(reading) for reading in readings]
    means = {key: sum(a[key] for a in agreements) / len(agreements) for key in ("colour", "background", "shape")}
    return {
        **means,
        "no_sprite": 1 - sum(r.seen.float().mean().item() for r in readings) / len(readings),
        "solid": sum(r.solid[r.seen].mean().item() for r in readings if r.seen.any()) / len(readings),
        "path_px": sum(m[0] for m in moves) / len(moves),
        "jumps": sum(m[1] > 0.35 * SIZE for m in moves) / len(moves),
    }


def seed_spread(model: EmbeddedModel, scene: Scene, seeds: int = 8) -> float:
    """Mean distance in pixels between the sprites of two seeds of one prompt; 0 means that all move alike."""
    paths = torch.stack([read_clip(v).centres for v in sample_scenes(model, [scene] * seeds, seed=7)])
    distance = (paths[:, None] - paths[None]).norm(dim=-1)
    return distance[~torch.eye(seeds, dtype=torch.bool)].nanmean().item()


def picture(videos: list[torch.Tensor], scale: int = 2) -> Image.Image:
    """Videos as rows of frames."""
    sheet = torch.cat([torch.cat(list(video), 1) for video in videos], 0)
    image = Image.fromarray((sheet * 255).round().byte().numpy())
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m det_core.models.embedded.gate", description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--picture", type=Path, help="write a PNG of the first 12 videos here")
    args = parser.parse_args()
    model = EmbeddedModel(tiny=TinyModel.load(args.weights))
    generator = torch.Generator().manual_seed(0)
    held_out = Scene.held_out()
    scenes = [held_out[i % len(held_out)] for i in torch.randperm(args.samples, generator=generator).tolist()]
    started = time.monotonic()
    videos = sample_scenes(model, scenes, seed=0)
    result = measure(videos, scenes)
    result["seed_spread_px"] = seed_spread(model, scene_of("a green star on a teal striped background"))
    result["seconds_a_video"] = (time.monotonic() - started) / args.samples
    result["passed"] = all(
        result[key] <= target if key == "no_sprite" else result[key] >= target for key, target in TARGETS.items()
    )
    print(json.dumps(result, indent=2))
    if args.picture:
        with atomic_write(args.picture) as temporary:
            picture(videos[:12]).save(temporary)


if __name__ == "__main__":
    main()

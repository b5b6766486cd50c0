"""Benchmark cases for the embedded model: sprites on random paths, with prompts it was never trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ..files import atomic_write
from ..media.video import SMALLEST_SIDE_PX, write_video
from ..models.embedded.corpus import FAMILIES, UNSEEN_FAMILIES, Scene, make_clip
from ..tracking.tracks import Tracks

PROMPTS = 3  # per case
FPS = 8.0


def write_sprite_cases(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` cases, named by their path's family; the same seed writes the same cases.

    Prompts are held-out scenes that share neither colour, shape nor background with the source.
    """
    families = [*UNSEEN_FAMILIES, *FAMILIES]
    held_out = Scene.held_out()
    for index in range(count):
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        family = families[index % len(families)]
        scene = held_out[int(torch.randint(len(held_out), (), generator=generator))]
        clip = make_clip(scene, family, generator)
        others = [
            s
            for s in held_out
            if s.colour != scene.colour and s.shape != scene.shape and s.background != scene.background
        ]
        chosen = [others[i] for i in torch.randperm(len(others), generator=generator)[:PROMPTS]]
        place = folder / f"{index:03d}-{family}"
        write_video(place / f"{place.name}.mp4", clip.frames, FPS)
        _write_text(place / "prompts.txt", scene.caption)
        _write_text(place / "eval_prompts.txt", "\n".join(s.caption for s in chosen))
        _write_mask(place / "masks" / "00000.png", clip.frames)
        size = clip.frames.shape[1]
        Tracks((clip.path / size)[None], torch.ones(1, len(clip.path), dtype=torch.bool), "sprite").save(
            place / "trajectories.safetensors"
        )


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _write_mask(path: Path, frames: torch.Tensor) -> None:
    """The sprite of the first frame, as the reader of the embedded model's clips finds it, at the video file's size."""
    from ..models.embedded.reader import read_clip

    factor = -(-SMALLEST_SIDE_PX // frames.shape[1])
    mask = read_clip(frames).first_mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    with atomic_write(path) as temporary:
        Image.fromarray((mask.numpy() * 255).astype("uint8")).save(temporary)

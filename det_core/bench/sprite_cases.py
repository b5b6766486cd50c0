"""Benchmark cases for the embedded model: sprites on random paths, with prompts it was never trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ..files import atomic_write
from ..media.video import SMALLEST_SIDE_PX, write_video
from ..models.embedded.corpus import FAMILIES, UNSEEN_FAMILIES, Scene, make_clip
from ..models.embedded.reader import read_clip
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
        write_text(place / "prompts.txt", scene.caption)
        write_text(place / "eval_prompts.txt", "\n".join(s.caption for s in chosen))
        write_mask(place / "masks" / "00000.png", read_clip(clip.frames).first_mask)
        size = clip.frames.shape[1]
        Tracks((clip.path / size)[None], torch.ones(1, len(clip.path), dtype=torch.bool), "sprite").save(
            place / "trajectories.safetensors"
        )


def write_text(path: Path, text: str) -> None:
    """One text file of a case."""
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_mask(path: Path, mask: torch.Tensor) -> None:
    """A mask (H, W) bool as a picture of the video file's size."""
    factor = -(-SMALLEST_SIDE_PX // mask.shape[0])
    write_picture(path, mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1).float())


def write_picture(path: Path, picture: torch.Tensor) -> None:
    """A picture (H, W, 3) or (H, W) in [0, 1]."""
    with atomic_write(path) as temporary:
        Image.fromarray((picture.numpy() * 255).round().astype("uint8")).save(temporary)

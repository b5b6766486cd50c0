"""Benchmark cases for embedded model 2: the four categories of MotionBench (Follow-Your-Motion), on motions that the
model was never trained on, with prompts it was never trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from ..media.video import write_video
from ..models.embedded.world.corpus import object_coverage, render
from ..models.embedded.world.scene import World, random_world
from ..models.embedded.world.unseen import CATEGORIES, unseen_motion
from ..tracking.tracks import Tracks
from .sprite_cases import FPS, write_mask, write_picture, write_text

PROMPTS = 2  # per case
KINDS = {"articulated": ("walker",), "camera": ("circle", "square", "triangle", "star")}  # others: any shape
PATTERNS = ("checkered",)  # in the camera's category, where the background must show the whole camera


def write_world_cases(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` cases, the categories in turn, named by category and motion; the same seed writes the same cases.

    Prompts share no object's colour and not the background's colour with the source; those of one object not its kind.
    """
    categories = list(CATEGORIES)
    for index in range(count):
        category = categories[index % len(categories)]
        name = CATEGORIES[category][index // len(categories) % len(CATEGORIES[category])]
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        world = _drawn(category, generator, ())
        prompts: list[World] = []
        while len(prompts) < PROMPTS:
            prompts.append(_drawn(category, generator, (world, *prompts)))
        _write(folder / f"{index:03d}-{category}-{name}", category, name, world, prompts, generator)


def _drawn(category: str, generator: torch.Generator, others: tuple[World, ...]) -> World:
    """A held-out world that suits the category and shares nothing with `others` that a prompt can change."""
    kinds = KINDS.get(category, KINDS["camera"])
    while True:
        world = random_world(generator, 2 if category == "multiple" else 1, held_out=True)
        fits = all(thing.kind in kinds for thing in world.things)
        fits &= category != "camera" or world.pattern in PATTERNS
        if fits and not any(_alike(world, other, category) for other in others):
            return world


def _alike(one: World, other: World, category: str) -> bool:
    things = zip(one.things, other.things, strict=True)
    same_kind = category == "single" and any(a.kind == b.kind for a, b in things)
    colours = {thing.colour for thing in one.things} & {thing.colour for thing in other.things}
    return bool(colours) or same_kind or one.background == other.background


def _write(place: Path, category: str, name: str, world: World, prompts: list[World], generator) -> None:
    kinds = [thing.kind for thing in world.things]
    motion = unseen_motion(category, name, kinds, generator)
    frames = render([world], motion)[0]
    size = frames.shape[1]
    write_video(place / f"{place.name}.mp4", frames, FPS)
    write_text(place / "prompts.txt", world.caption)
    write_text(place / "eval_prompts.txt", "\n".join(prompt.caption for prompt in prompts))
    for number, prompt in enumerate(prompts):  # its objects begin where the source's do
        write_picture(place / "first_frames" / f"{number:05d}.png", render([prompt], motion)[0, 0])
    covered = object_coverage([kinds], motion)[0, :, 0].amax(0) > 0.5
    write_mask(place / "masks" / "00000.png", covered)
    paths = motion.paths[0] / size
    Tracks(paths, torch.ones(paths.shape[:2], dtype=torch.bool), "sprite").save(place / "trajectories.safetensors")

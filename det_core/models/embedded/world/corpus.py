"""Clips of the world: what is drawn (`World`), how it moves (`Motion`), and the frames that come of it."""

from __future__ import annotations

import torch

from ..corpus import COLOURS, _pixel_grid
from .background import background
from .figures import coverage
from .motion import Motion, random_motion
from .scene import KINDS, World, random_world

CHUNK = 32  # clips rendered at a time


def render(worlds: list[World], motion: Motion) -> torch.Tensor:
    """Frames (B, T, 64, 64, 3) in [0, 1] of B worlds with the same number of objects."""
    chunks = []
    for start in range(0, len(worlds), CHUNK):
        part = slice(start, start + CHUNK)
        chunks.append(_render(worlds[part], Motion(*(getattr(motion, f)[part] for f in motion.__dataclass_fields__))))
    return torch.cat(chunks)


def _render(worlds: list[World], motion: Motion) -> torch.Tensor:
    grounds = []
    for world, camera in zip(worlds, motion.camera, strict=True):
        seen = camera[:1] if camera.eq(camera[:1]).all() else camera  # a camera that rests needs one picture
        grounds.append(background(world.background, world.pattern, seen).expand(len(camera), -1, -1, -1))
    frames = torch.stack(grounds)
    cover = object_coverage([[thing.kind for thing in world.things] for world in worlds], motion)
    colours = torch.tensor([[COLOURS[thing.colour] for thing in world.things] for world in worlds])
    rows = torch.arange(len(worlds))
    for layer in motion.order.unbind(1):  # from back to front
        alpha = cover[rows, layer][..., None]
        frames = frames * (1 - alpha) + colours[rows, layer][:, None, None, None] * alpha
    return frames


def object_coverage(kinds: list[list[str]], motion: Motion) -> torch.Tensor:
    """(B, N, T, 64, 64) in [0, 1]: how much of a pixel each object covers, whatever is before it."""
    x, y = _pixel_grid()
    out = torch.zeros(*motion.radius.shape, *x.shape)
    for kind in KINDS:
        at = torch.tensor([[k == kind for k in row] for row in kinds])
        if at.any():
            path, radius, angle, limbs = (
                v[at][..., None, None] for v in (motion.paths, motion.radius, motion.angle, motion.limbs)
            )
            out[at] = coverage(kind, x - path[:, :, 0], y - path[:, :, 1], radius, angle, limbs.unbind(2))
    return out


def random_clips(
    count: int, things: int, generator: torch.Generator, *, held_out: bool = False
) -> tuple[list[World], Motion, torch.Tensor]:
    """Random worlds of so many objects, their motion and their frames (count, T, 64, 64, 3)."""
    worlds = [random_world(generator, things, held_out=held_out) for _ in range(count)]
    motion = random_motion([[thing.kind for thing in world.things] for world in worlds], generator)
    return worlds, motion, render(worlds, motion)

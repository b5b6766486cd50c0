"""Motions that no family of the world's corpus contains, in the four kinds that Follow-Your-Motion's MotionBench has:
of the camera, of one object, of several, and of a figure's limbs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..corpus import FRAMES, SIZE, UNSEEN_FAMILIES, random_path
from .background import seen_at
from .motion import Draw, Motion, limb_angles

Cameras = Callable[[torch.Tensor, Draw], torch.Tensor]


def _orbit(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    turn, radius = draw.sign() * 2 * math.pi * s, draw.uniform(6, 9)
    return torch.stack([radius * turn.sin(), radius * (1 - turn.cos()), 0 * s, 0 * s], -1)


def _breathe(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    zoom = draw.sign() * draw.uniform(0.25, 0.35) * torch.sin(math.pi * s)
    return torch.stack([0 * s, 0 * s, zoom, 0 * s], -1)


def _roll(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    side = draw.sign()
    return torch.stack([side * draw.uniform(8, 12) * s, 0 * s, 0 * s, side * draw.uniform(0.25, 0.35) * s], -1)


CAMERAS: dict[str, Cameras] = {"orbit": _orbit, "breathe": _breathe, "roll": _roll}


def _swap(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    turn = draw.sign() * math.pi * s + draw.uniform(0, 2 * math.pi)
    around = 15 * torch.stack([turn.cos(), turn.sin()], -1)
    return torch.stack([around, -around])


def _chase(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    turn = draw.sign() * 1.5 * math.pi * s + draw.uniform(0, 2 * math.pi)
    return torch.stack([16 * torch.stack([at.cos(), at.sin()], -1) for at in (turn, turn - 1.9)])


def _seesaw(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    height = draw.sign() * 15 * torch.sin(2 * math.pi * s)
    return torch.stack([torch.stack([0 * s + x, side * height], -1) for x, side in ((-15.0, 1.0), (15.0, -1.0))])


PAIRS = {"swap": _swap, "chase": _chase, "seesaw": _seesaw}


def _salute(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    up = torch.sigmoid(12 * (s - 0.35)) * 2 - 1
    return torch.stack([-0.7 + 0 * s, up, 0 * s - 0.3, 0 * s - 0.3], -1)


def _windmill(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    wave = torch.sin(2 * math.pi * 2 * s)
    return torch.stack([wave, -wave, 0 * s, 0 * s], -1)


def _stretch(s: torch.Tensor, draw: Draw) -> torch.Tensor:
    wide = 2 * s - 1
    return torch.stack([wide, wide, -wide, -wide], -1)


GAITS = {"salute": _salute, "windmill": _windmill, "stretch": _stretch}

# The names of the motions in each category.
CATEGORIES = {
    "camera": tuple(CAMERAS),
    "single": tuple(UNSEEN_FAMILIES),
    "multiple": tuple(PAIRS),
    "articulated": tuple(GAITS),
}


def unseen_motion(category: str, name: str, kinds: list[str], generator: torch.Generator) -> Motion:
    """One clip's motion (B = 1): two objects for "multiple", one for the others."""
    draw = Draw(generator)
    s = torch.linspace(0, 1, FRAMES)
    count = 2 if category == "multiple" else 1
    camera, swing = torch.zeros(FRAMES, 4), torch.zeros(FRAMES, 4)
    paths = torch.full((count, FRAMES, 2), SIZE / 2)
    radius = 9.5 if category == "multiple" else 11.5
    if category == "camera":
        camera = CAMERAS[name](s, draw)
        paths = seen_at(SIZE / 2 + draw.uniform(-8, 8, 1, 1, 2), camera)
    elif category == "single":
        paths = random_path(name, generator)[None]
    elif category == "multiple":
        paths = SIZE / 2 + PAIRS[name](s, draw)
    else:
        swing = GAITS[name](s, draw)
    limbs = torch.stack([limb_angles(kind, swing) for kind in kinds])
    zoom, turn = camera[:, 2].exp().expand(count, -1), camera[:, 3].expand(count, -1)
    return Motion(paths[None], radius * zoom[None], turn[None], limbs[None], camera[None], torch.arange(count)[None])

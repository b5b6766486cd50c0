"""Random motions of the world, drawn in batches: the camera, each object's path and size, and its limbs.

Convention: B clips, N objects, T frames. Shapes are those of `Motion`; positions are pixels of the picture, as seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from ..corpus import FAMILIES, FRAMES, SIZE, random_path
from .background import seen_at
from .figures import LIMBS

CAMERAS = {"rests": 0.5, "pans": 0.2, "zooms": 0.12, "rotates": 0.09, "shakes": 0.09}  # shares of clips
GAITS = {"rests": 0.15, "strides": 0.35, "jumps": 0.3, "waves": 0.2}
RADII = {1: (10.0, 12.5), 2: (8.5, 11.0), 3: (7.0, 9.0)}  # px, by the number of objects
GAP_PX = 3.0  # between objects that do not meet
MEET = 0.25  # share of clips whose objects may cross
TRIES = 24  # paths drawn for one object
REACH = 1.3  # an object reaches so many radii from its centre


@dataclass(frozen=True)
class Motion:
    """How B clips move.

    paths (B, N, T, 2) px, radius (B, N, T) px and angle (B, N, T) rad as seen; limbs (B, N, T, 4) rad (figures.py);
    camera (B, T, 4) (background.py); order (B, N): the objects from back to front.
    """

    paths: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor
    limbs: torch.Tensor
    camera: torch.Tensor
    order: torch.Tensor


class Draw:
    """Random numbers of one generator."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def sign(self, *shape: int) -> torch.Tensor:
        return torch.where(torch.rand(shape, generator=self.generator) < 0.5, -1.0, 1.0)

    def choice(self, shares: dict[str, float], count: int) -> list[str]:
        weights = torch.tensor(list(shares.values()))
        names = list(shares)
        return [names[i] for i in torch.multinomial(weights, count, True, generator=self.generator).tolist()]


def random_camera(kind: str, draw: Draw) -> torch.Tensor:
    """One camera (T, 4)."""
    camera = torch.zeros(FRAMES, 4)
    s = torch.linspace(0, 1, FRAMES)
    eased = s if draw.uniform(0, 1) < 0.5 else (1 - torch.cos(math.pi * s)) / 2
    if kind == "pans":
        turn = draw.uniform(0, 2 * math.pi)
        length = draw.uniform(8, 22) * eased
        camera[:, 0], camera[:, 1] = length * turn.cos(), length * turn.sin()
    elif kind == "zooms":
        camera[:, 2] = draw.sign() * draw.uniform(0.15, 0.35) * eased
    elif kind == "rotates":
        camera[:, 3] = draw.sign() * draw.uniform(0.15, 0.45) * eased
    elif kind == "shakes":
        for axis in (0, 1):
            speed, phase = draw.uniform(1.5, 3.0), draw.uniform(0, 2 * math.pi)
            swing = torch.sin(2 * math.pi * speed * s + phase)
            camera[:, axis] = draw.uniform(1.5, 3.5) * (swing - swing[0])
    elif kind != "rests":
        raise ValueError(f"no camera {kind!r}; cameras are {', '.join(CAMERAS)}")
    return camera


def limb_swing(gait: str, draw: Draw) -> torch.Tensor:
    """Swings (T, 4) in [-1, 1] of four limbs about their middle."""
    s = torch.linspace(0, 1, FRAMES)
    wave = torch.sin(2 * math.pi * (draw.uniform(0.6, 1.4) * s + draw.uniform(0, 1)))
    amplitude = draw.uniform(0.6, 1.0)
    if gait == "strides":
        weights = torch.tensor([1.0, -1.0, -1.0, 1.0])
    elif gait == "jumps":
        weights = torch.ones(4)
    elif gait == "waves":
        weights = torch.tensor([1.0, 0.0, 0.0, 0.0]) if draw.uniform(0, 1) < 0.5 else torch.tensor([0.0, 1.0, 0, 0])
    elif gait == "rests":
        weights = torch.zeros(4)
    else:
        raise ValueError(f"no gait {gait!r}; gaits are {', '.join(GAITS)}")
    rest = draw.uniform(-0.5, 0.5, LIMBS) * (weights == 0)
    return amplitude * wave[:, None] * weights + rest


# middle and swing of the four limbs, rad
LIMB_RANGE = {
    "walker": (torch.tensor([1.35, 1.35, 0.42, 0.42]), torch.tensor([0.95, 0.95, 0.30, 0.30])),
    "bird": (torch.tensor([1.65, 1.65, 0, 0]), torch.tensor([0.75, 0.75, 0, 0])),
}


def limb_angles(kind: str, swing: torch.Tensor) -> torch.Tensor:
    """Angles (T, 4) rad of a figure's limbs for swings (T, 4); a bird's wings beat together. Zeros for a shape."""
    if kind not in LIMB_RANGE:
        return torch.zeros_like(swing)
    if kind == "bird":
        swing = swing[:, :1].expand(-1, LIMBS)
    middle, reach = LIMB_RANGE[kind]
    return middle + reach * swing


@cache
def _path_library() -> torch.Tensor:
    """(4500, T, 2) random paths about their middle, px; drawn once, since one by one they cost more than a frame."""
    generator = torch.Generator().manual_seed(0)
    paths = torch.stack([random_path(family, generator) for _ in range(500) for family in FAMILIES])
    return paths - (paths.amax(1, keepdim=True) + paths.amin(1, keepdim=True)) / 2


def _placed(camera: torch.Tensor, reach: torch.Tensor, others: list, apart: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A path (B, T, 2) for one object a clip: of several drawn the one that best stays inside and away from others.

    Args: camera (B, T, 4). reach (B, T) px. others: (path, reach) of the objects before. apart (B,): keep away.
    """
    clips = len(camera)
    library = _path_library()
    shape = library[torch.randint(len(library), (clips, TRIES), generator=draw.generator)]
    still = draw.uniform(0, 1, clips, TRIES) < 0.1
    size = draw.uniform(0.3, 1.0, clips, TRIES) * ~still * (0.75 if others else 1.0)
    middle = draw.uniform(12, SIZE - 12, clips, TRIES, 2)
    paths = seen_at(shape * size[..., None, None] + middle[:, :, None], camera[:, None])
    edge = (reach[:, None] + 1)[..., None]
    outside = (edge - paths).clamp(min=0) + (paths - (SIZE - edge)).clamp(min=0)
    cost = outside.sum((2, 3)) + 0.02 * torch.rand(clips, TRIES, generator=draw.generator)
    for path, other_reach in others:
        distance = (paths - path[:, None]).norm(dim=-1)
        near = (reach + other_reach + GAP_PX)[:, None] - distance
        cost = cost + 2 * near.clamp(min=0).sum(-1) * apart[:, None]
    return paths[torch.arange(clips), cost.argmin(1)]


def random_motion(kinds: list[list[str]], generator: torch.Generator, cameras: dict[str, float] = CAMERAS) -> Motion:
    """A motion for B clips of N objects each (`kinds` B lists of N names); `cameras` are the shares of each kind."""
    draw = Draw(generator)
    clips, things = len(kinds), len(kinds[0])
    camera = torch.stack([random_camera(kind, draw) for kind in draw.choice(cameras, clips)])
    zoom = camera[..., 2].exp()
    s = torch.linspace(0, 1, FRAMES)
    low, high = RADII[things]
    apart = draw.uniform(0, 1, clips) >= MEET
    placed: list[tuple[torch.Tensor, torch.Tensor]] = []
    radii, angles, limbs = [], [], []
    for n in range(things):
        radius = (draw.uniform(low, high, clips, 1) + draw.uniform(-1, 1, clips, 1) * s) * zoom
        radii.append(radius)
        tilt = draw.uniform(-0.15, 0.15, clips, 1) + draw.uniform(-0.2, 0.2, clips, 1) * s
        angles.append(tilt + camera[..., 3])
        placed.append((_placed(camera, REACH * radius, placed, apart, draw), REACH * radius))
        gaits = draw.choice(GAITS, clips)
        limbs.append(torch.stack([limb_angles(k[n], limb_swing(g, draw)) for k, g in zip(kinds, gaits, strict=True)]))
    order = torch.rand(clips, things, generator=generator).argsort(1)
    paths = torch.stack([path for path, _ in placed], 1)
    return Motion(paths, torch.stack(radii, 1), torch.stack(angles, 1), torch.stack(limbs, 1), camera, order)

"""The objects of the world as pictures: the shapes of model 1 and two figures with limbs, drawn in batches.

Convention: all arguments broadcast over pixels; lengths are pixels, x right, y down, angles radians and clockwise. A
    limb's angle is measured from straight down, outwards: 0 hangs, pi/2 is level, pi points up. A figure has four limbs
    (left, right, left, right): a walker's arms, then its legs; a bird's wings, then two that it has not. Left is the
    picture's left.
"""

from __future__ import annotations

import math

import torch

from ..corpus import SHAPES, sprite_coverage

LIMBS = 4
LIMBS_OF = {"walker": 4, "bird": 2}

# In radii: where a limb is joined (x outwards, y), its length, its half width there and at its end.
ARM = (0.19, -0.42, 0.86, 0.17, 0.17)
LEG = (0.16, 0.26, 0.98, 0.20, 0.20)
WING = (0.18, -0.05, 1.10, 0.36, 0.18)
# In radii: (x, y) from, (x, y) to, half width.
WALKER_BODY = ((0, -1.06, 0, -1.06, 0.30), (0, -0.36, 0, 0.24, 0.25))
BIRD_BODY = ((0, -0.66, 0, -0.66, 0.25), (0, -0.25, 0, 0.44, 0.31))


def _bone(x, y, start_x, start_y, end_x, end_y, wide, narrow):
    """Signed distance from a bone: a line with round ends whose half width goes from `wide` to `narrow`."""
    along_x, along_y = end_x - start_x, end_y - start_y
    length2 = along_x**2 + along_y**2 + 1e-6
    at = (((x - start_x) * along_x + (y - start_y) * along_y) / length2).clamp(0, 1)
    gap = torch.hypot(x - start_x - at * along_x, y - start_y - at * along_y)
    return gap - (wide + at * (narrow - wide))


def limb_distance(x, y, radius, angle, side: int, limb: tuple[float, ...]) -> torch.Tensor:
    """Signed distance from one limb; side is -1 (left) or 1 (right)."""
    out, down, length, wide, narrow = limb
    start_x, start_y = side * out * radius, down * radius
    end_x = start_x + side * length * radius * torch.sin(angle)
    end_y = start_y + length * radius * torch.cos(angle)
    return _bone(x, y, start_x, start_y, end_x, end_y, wide * radius, narrow * radius)


def coverage(kind: str, x, y, radius, angle, limbs) -> torch.Tensor:
    """Anti-aliased coverage in [0, 1] of an object at the origin of `x`, `y`; limbs is a sequence of 4 angles.

    Raises: ValueError for an unknown kind.
    """
    if kind in SHAPES:
        return sprite_coverage(kind, x, y, radius, angle)
    if kind not in LIMBS_OF:
        raise ValueError(f"no object is called {kind!r}; objects are {', '.join((*SHAPES, *LIMBS_OF))}")
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = x * cos + y * sin, y * cos - x * sin
    body, jointed = (WALKER_BODY, (ARM, LEG)) if kind == "walker" else (BIRD_BODY, (WING,))
    distance = torch.full_like(x * radius, math.inf)
    for from_x, from_y, to_x, to_y, width in body:
        part = _bone(
            x, y, from_x * radius, from_y * radius, to_x * radius, to_y * radius, width * radius, width * radius
        )
        distance = torch.minimum(distance, part)
    for pair, limb in enumerate(jointed):
        for side in (-1, 1):
            at = limbs[2 * pair + (side > 0)]
            distance = torch.minimum(distance, limb_distance(x, y, radius, at, side, limb))
    return (0.5 - distance).clamp(0, 1)

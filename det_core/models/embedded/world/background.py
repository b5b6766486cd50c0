"""Backgrounds of the world, seen by a camera that moves.

Convention: a camera is (dx, dy, log zoom, angle), pixels and radians clockwise: it takes the place p of the first
    frame's picture to centre + zoom * R(angle) (p - centre) + (dx, dy). The first frame's camera is all zeros.
"""

from __future__ import annotations

import torch

from ..corpus import BACKGROUND_COLOURS, SIZE, _pixel_grid

CELL = {"striped": 8.0, "checkered": 16.0}  # px
CONTRAST = 0.35  # light and dark cells have 1 +- this of the colour's brightness


def seen_at(places: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Where a camera (..., 4) shows places (..., 2) px of the first frame's picture."""
    offset = (places - SIZE / 2) * camera[..., 2:3].exp()
    cos, sin = camera[..., 3].cos(), camera[..., 3].sin()
    x, y = offset.unbind(-1)
    return torch.stack([x * cos - y * sin, y * cos + x * sin], -1) + SIZE / 2 + camera[..., :2]


def _wave(at: torch.Tensor, cell: float, zoom: torch.Tensor) -> torch.Tensor:
    """A square wave of cells `cell` px wide, 1 in the first, -1 in the second, with edges one seen pixel wide."""
    phase = torch.remainder(at / cell, 2)
    to_edge = 0.5 - (torch.remainder(phase, 1) - 0.5).abs()  # in cells
    return (2 * to_edge * cell * zoom).clamp(max=1) * torch.where(phase < 1, 1.0, -1.0)


def light(pattern: str, camera: torch.Tensor) -> torch.Tensor:
    """Brightness (..., 64, 64) of a pattern, 1 on average, seen by a camera (..., 4)."""
    x, y = _pixel_grid()
    dx, dy, log_zoom, angle = (part[..., None, None] for part in camera.unbind(-1))
    zoom, cos, sin = log_zoom.exp(), angle.cos(), angle.sin()
    x, y = x - SIZE / 2 - dx, y - SIZE / 2 - dy
    x, y = (x * cos + y * sin) / zoom + SIZE / 2, (y * cos - x * sin) / zoom + SIZE / 2
    if pattern == "plain":
        return torch.ones_like(x)
    if pattern == "striped":
        return 1 + CONTRAST * _wave(x, CELL[pattern], zoom)
    if pattern == "checkered":
        return 1 + CONTRAST * _wave(x, CELL[pattern], zoom) * _wave(y, CELL[pattern], zoom)
    if pattern == "gradient":  # up and down again beyond the picture
        return 0.5 + 1 - (torch.remainder(y / SIZE, 2) - 1).abs()
    raise ValueError(f"no pattern is called {pattern!r}")


def background(colour: str, pattern: str, camera: torch.Tensor) -> torch.Tensor:
    """(..., 64, 64, 3) in [0, 1]. With a camera of zeros these are model 1's backgrounds."""
    return (torch.tensor(BACKGROUND_COLOURS[colour]) * light(pattern, camera)[..., None]).clamp(0, 1)

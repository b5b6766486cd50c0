"""Read a 64x64 clip analytically: which sprite, which background, where the sprite is. The ruler of the embedded DiT.

Nothing here is learned: a background is recognised as the corpus background that most pixels agree with, the sprite is
what stands out from it, its colour is the nearest of the corpus colours and its shape the best-overlapping template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from .corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS, SHAPES, SIZE, Scene, render_background, sprite_coverage

STANDS_OUT = 0.22  # RGB distance from the background at which a pixel counts as sprite
SMALLEST_SPRITE = 90  # pixels; the corpus has sprites of about 200 to 450 pixels


@dataclass(frozen=True)
class Reading:
    """What a clip shows, frame by frame.

    colours, shapes:  T names each, "" where no sprite is seen.
    background:       (colour, pattern) of the whole clip; `backgrounds` the same for each frame alone.
    centres:          (T, 2) pixels, NaN where no sprite is seen.
    solid:            (T,) share of the pixels that stand out that belong to the largest piece, the sprite.
    first_mask:       (64, 64) bool, the sprite in the first frame.
    background_error: mean absolute difference in [0, 1] from the named background, outside the sprite.
    """

    colours: list[str]
    shapes: list[str]
    background: tuple[str, str]
    backgrounds: list[tuple[str, str]]
    centres: torch.Tensor
    solid: torch.Tensor
    first_mask: torch.Tensor
    background_error: float

    @property
    def is_corpus_clip(self) -> bool:
        """Whether this is a clip of the corpus's kind: one solid sprite in every frame on a known background."""
        small = self.first_mask.float().mean() < 0.2  # the corpus's sprites cover about a tenth
        return bool(self.seen.all() and small and self.solid.mean() > 0.8 and self.background_error < 0.05)

    @property
    def seen(self) -> torch.Tensor:
        """(T,) bool: a sprite is visible."""
        return ~torch.isnan(self.centres[:, 0])

    def agreement(self, scene: Scene) -> dict[str, float]:
        """Shares of frames that agree with `scene`: colour, shape, background, and their mean as edit_fidelity."""
        frames = len(self.colours)
        shares = {
            "colour": sum(c == scene.colour for c in self.colours) / frames,
            "shape": sum(s == scene.shape for s in self.shapes) / frames,
            "background": sum(b == (scene.background, scene.pattern) for b in self.backgrounds) / frames,
        }
        return {**shares, "edit_fidelity": sum(shares.values()) / 3}


@cache
def _backgrounds() -> tuple[list[tuple[str, str]], torch.Tensor]:
    names = [(c, p) for c in BACKGROUND_COLOURS for p in PATTERNS]
    return names, torch.stack([render_background(*name) for name in names])


@cache
def _templates() -> torch.Tensor:
    """Sprites of unit area centred on their centroid, (shapes, angles, 32, 32), radius 8 pixels' worth of area."""
    axis = torch.arange(32, dtype=torch.float32) - 15.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    stacks = []
    for shape in SHAPES:
        row = []
        for angle in torch.linspace(-0.5, 0.5, 9):
            radius = torch.tensor(9.0)
            for _ in range(4):  # scale to the area of the reference square and centre on the centroid
                cover = sprite_coverage(shape, x, y, radius, angle)
                radius = radius * (256.0 / cover.sum()).sqrt()
            cx, cy = (cover * x).sum() / cover.sum(), (cover * y).sum() / cover.sum()
            row.append(sprite_coverage(shape, x + cx, y + cy, radius, angle))
        stacks.append(torch.stack(row))
    return torch.stack(stacks)


def _largest_piece(mask: torch.Tensor) -> torch.Tensor:
    """The largest 4-connected piece of a boolean mask (H, W)."""
    _, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=4)
    sizes = np.bincount(labels[mask.numpy()], minlength=1)
    return torch.from_numpy(labels == sizes.argmax()) & mask


def _shape_of(mask: torch.Tensor, centre: torch.Tensor) -> str:
    """The template that overlaps best with `mask` once both are centred and scaled to the same area."""
    scale = (mask.sum() / 256.0).sqrt()
    axis = (torch.arange(32, dtype=torch.float32) - 15.5) * scale
    grid_x, grid_y = torch.meshgrid(axis + centre[0], axis + centre[1], indexing="xy")
    grid = torch.stack([grid_x, grid_y], -1) / SIZE * 2 - 1
    crop = F.grid_sample(mask[None, None].float(), grid[None], align_corners=False, mode="bilinear")[0, 0]
    templates = _templates()
    overlap = torch.minimum(templates, crop).sum((-1, -2)) / torch.maximum(templates, crop).sum((-1, -2))
    return SHAPES[int(overlap.amax(1).argmax())]


def read_clip(frames: torch.Tensor) -> Reading:
    """Read a clip (T, 64, 64, 3) in [0, 1]."""
    names, backgrounds = _backgrounds()
    distance = torch.stack([(frames - b).abs().mean(-1).clamp(max=0.25).mean((1, 2)) for b in backgrounds])  # (24, T)
    best = names[int(distance.sum(1).argmin())]
    per_frame = [names[int(i)] for i in distance.argmin(0)]
    apart = (frames - render_background(*best)).norm(dim=-1)
    colour_table = torch.tensor(list(COLOURS.values()))
    colours, shapes, centres, solid, pieces = [], [], [], [], []
    axis = torch.arange(SIZE, dtype=torch.float32) + 0.5
    for t, frame in enumerate(frames):
        mask = apart[t] > STANDS_OUT
        piece = _largest_piece(mask)
        pieces.append(piece)
        area = piece.sum()
        if area < SMALLEST_SPRITE:
            colours.append("")
            shapes.append("")
            centres.append(torch.full((2,), float("nan")))
            solid.append(torch.tensor(0.0))
            continue
        centre = torch.stack([(piece.sum(0) * axis).sum() / area, (piece.sum(1) * axis).sum() / area])
        core = -F.max_pool2d(-piece[None, None].float(), 5, 1, 2)[0, 0] > 0  # erode: edges are blended
        inside = frame[core] if core.any() else frame[piece]
        colours.append(list(COLOURS)[int((colour_table - inside.median(0).values).norm(dim=-1).argmin())])
        shapes.append(_shape_of(piece, centre))
        centres.append(centre)
        solid.append(area / mask.sum())
    difference = (frames - render_background(*best)).abs().mean(-1)
    outside = (
        F.max_pool2d(torch.stack(pieces)[:, None].float(), 3, 1, 1)[:, 0] == 0
    )  # without the sprite's blended edge
    error = (difference * outside).sum() / outside.sum().clamp(min=1)
    return Reading(colours, shapes, best, per_frame, torch.stack(centres), torch.stack(solid), pieces[0], error.item())

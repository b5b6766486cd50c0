"""An object's pose in a frame, by drawing it: the place, size, angle and limbs whose picture fits best.

Convention: a pose is (x, y, radius, angle, four limbs), pixels and radians as in figures.py; shapes have limbs of 0.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import torch
import torch.nn.functional as F

from ..corpus import SIZE, _pixel_grid
from .figures import LIMBS_OF, coverage
from .scene import KINDS

GRID = 32  # cells a side of a template, which covers AREA of them
AREA = 200.0
UNITS = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.15, 0.15, 0.15, 0.15])  # of a pose: what moves its outline by about a pixel
LOW = torch.tensor([-20.0, -20.0, 4.0, -3.2, 0.0, 0.0, 0.0, 0.0])
HIGH = torch.tensor([84.0, 84.0, 22.0, 3.2, 2.9, 2.9, 2.9, 2.9])


def cover_of(kind: str, poses: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(..., h, w) in [0, 1]: the picture of poses (..., 8) at pixels `x`, `y` (h, w), or (..., h, w)."""
    at_x, at_y, radius, angle, *limbs = (part[..., None, None] for part in poses.unbind(-1))
    return coverage(kind, x - at_x, y - at_y, radius, angle, limbs)


@cache
def _templates() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (M, 32, 32) of all kinds in many poses, of one area and about their centroid, their poses (M, 8) there
    and the index of their kind (M,)."""
    axis = torch.arange(GRID, dtype=torch.float32) + 0.5 - GRID / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pictures, poses, owners = [], [], []
    for index, kind in enumerate(KINDS):
        kind_poses = torch.tensor(_asked(kind))
        for _ in range(4):  # to the area wanted, about the centroid
            cover = cover_of(kind, kind_poses, x, y)
            area = cover.sum((1, 2))
            kind_poses[:, 0] -= (cover * x).sum((1, 2)) / area
            kind_poses[:, 1] -= (cover * y).sum((1, 2)) / area
            kind_poses[:, 2] *= (AREA / area).sqrt()
        pictures.append(cover_of(kind, kind_poses, x, y))
        poses.append(kind_poses)
        owners.append(torch.full((len(kind_poses),), index))
    return torch.cat(pictures), torch.cat(poses), torch.cat(owners)


def _asked(kind: str) -> list[tuple[float, ...]]:
    """Poses of a kind at the origin, with every limb and angle that a first look tells apart."""
    if kind == "walker":
        arms, legs, angles = (0.45, 0.9, 1.35, 1.8, 2.25), (0.15, 0.42, 0.7), (-0.5, -0.25, 0.0, 0.25, 0.5)
        return [(0, 0, 9, angle, *a, *b) for angle in angles for a in product(arms, arms) for b in product(legs, legs)]
    if kind == "bird":
        beats = (0.9, 1.15, 1.4, 1.65, 1.9, 2.15, 2.4)
        return [(0, 0, 9, angle, w, w, 0, 0) for angle in (-0.5, -0.25, 0.0, 0.25, 0.5) for w in beats]
    return [(0, 0, 9, angle, 0, 0, 0, 0) for angle in torch.linspace(-0.8, 0.8, 13).tolist()]


def first_look(cover: torch.Tensor) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """What covers pictures (T, 64, 64) in [0, 1]: the kind of each, a pose (T, 8) near it, and their overlap (T,)."""
    x, y = _pixel_grid()
    area = cover.sum((1, 2)).clamp(min=1)
    centre = torch.stack([(cover * x).sum((1, 2)), (cover * y).sum((1, 2))], -1) / area[:, None]
    scale = (area / AREA).sqrt()
    axis = torch.arange(GRID, dtype=torch.float32) + 0.5 - GRID / 2
    cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    at = cells * scale[:, None, None, None] + centre[:, None, None]
    crop = F.grid_sample(cover[:, None], at / SIZE * 2 - 1, align_corners=False).flatten(1)
    pictures, poses, owners = _templates()
    flat = pictures.flatten(1)
    # For coverages the product stands in for the smaller of two; it is one matrix product for all templates.
    both = crop @ flat.T
    overlap = both / (crop.pow(2).sum(1)[:, None] + flat.pow(2).sum(1) - both)
    best = overlap.argmax(1)
    pose = poses[best].clone()
    pose[:, :2] = pose[:, :2] * scale[:, None] + centre
    pose[:, 2] *= scale
    return [KINDS[i] for i in owners[best].tolist()], pose, overlap.amax(1)


def fitted(
    kind: str, cover: torch.Tensor, known: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (T, 8) that explain coverages (T, 64, 64) where `known` (T, 64, 64) is true, and their mean error (T,).

    Damped Gauss-Newton from `start` (T, 8), on blurred pictures first.
    """
    free = 4 + LIMBS_OF.get(kind, 0)
    units = UNITS[:free]
    x, y = _pixel_grid()
    pose = start.clone()
    for reach, rounds in ((5, 5), (3, 5)):
        damping = torch.full((len(pose),), 0.05)
        target, weight = _blurred(cover * known, reach), known.flatten(1).float()
        now = _misfit(kind, pose[:, None], target, known, x, y, reach)[:, 0]
        for _ in range(rounds):
            moved = pose[:, None].repeat(1, free, 1)
            moved[:, range(free), range(free)] += 0.3 * units
            slope = (_misfit(kind, moved, target, known, x, y, reach) - now[:, None]) / 0.3  # (T, free, pixels)
            normal = slope @ slope.transpose(1, 2)
            diagonal = damping[:, None] * normal.diagonal(dim1=1, dim2=2) + 0.05
            move = torch.linalg.solve(normal + torch.diag_embed(diagonal), -(slope @ now[..., None]))[..., 0]
            tried = pose.clone()
            tried[:, :free] += move.clamp(-2, 2) * units
            tried = tried.clamp(LOW, HIGH)
            then = _misfit(kind, tried[:, None], target, known, x, y, reach)[:, 0]
            better = then.pow(2).sum(1) < now.pow(2).sum(1)
            pose = torch.where(better[:, None], tried, pose)
            now = torch.where(better[:, None], then, now)
            damping = torch.where(better, damping / 3, damping * 5)
    return pose, now.abs().sum(1) / weight.sum(1).clamp(min=1)


def _blurred(pictures: torch.Tensor, reach: int) -> torch.Tensor:
    flat = pictures.reshape(-1, 1, SIZE, SIZE)
    return F.avg_pool2d(flat, reach, 1, reach // 2).reshape(pictures.shape)


def _misfit(kind, poses, target, known, x, y, reach) -> torch.Tensor:
    """(T, K, pixels): what K poses a frame (T, K, 8) cover too much or too little, blurred."""
    covered = cover_of(kind, poses, x, y) * known[:, None]
    return (_blurred(covered, reach) - target[:, None]).flatten(2)

"""Rotary positions over latent frames, rows and columns: each axis has its own channels of a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BASE = 10000.0
Positions = tuple[Sequence[float], Sequence[float], Sequence[float]]  # of latent frames, rows, columns


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """Channels of a head for frames, rows and columns: 64, 32, 32 of the published 128."""
    return head_width // 2, head_width // 4, head_width // 4


def axis_angles(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Angles (len(positions), width) of one axis, float32; both halves are equal.

    Note: the reference rounds these angles to bfloat16 before it takes their cosine, which is off by up to 0.1 at
        position 63. Here they stay float32, whatever the model computes in.
    """
    frequencies = BASE ** (-torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width)
    angles = positions.float()[:, None] * frequencies
    return torch.cat([angles, angles], dim=-1)


def rotary_table(positions: Positions, head_width: int, device: torch.device | None = None) -> torch.Tensor:
    """Cosines and sines (2, T*H*W, head_width) float32 of tokens in the order frame, row, column."""
    grid = [len(axis) for axis in positions]
    parts = []
    for axis, width in enumerate(axis_widths(head_width)):
        at = torch.tensor([float(p) for p in positions[axis]], device=device)
        shape = [1, 1, 1, width]
        shape[axis] = grid[axis]
        parts.append(axis_angles(at, width).view(shape).expand(*grid, width))
    angles = torch.cat(parts, dim=-1).flatten(0, 2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """(B, tokens, heads, width) turned by `rotary_table`'s angles; the partner of a channel is half its axis away."""
    cos, sin = table[:, :, None].to(x.dtype)
    turned = []
    for part in x.split(axis_widths(x.shape[-1]), dim=-1):
        first, second = part.chunk(2, dim=-1)
        turned += [-second, first]
    return x * cos + torch.cat(turned, dim=-1) * sin

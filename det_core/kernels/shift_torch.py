"""The two narrow operations between the matrix products, in plain torch, and their fused GELU.

Convention: tokens are (B, N, ...) in time-major order, so that one time step is `rows` tokens; `steps` are the
    distances in time a kernel looks at, such as (-1, 0, 1). Wide tensors hold one slice of m channels a step, in that
    order. Tokens beyond either end of time are zero. Sums are float32 (float64 for float64).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def gather_steps(narrow: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    """(B, N, m) -> (B, N, len(steps) * m): beside each token, its neighbours in time."""
    batch, count, width = narrow.shape
    wide = narrow.new_empty(batch, count, len(steps) * width)
    for slot, step in zip(wide.split(width, dim=-1), steps, strict=True):
        into, out_of = _overlap(step * rows, count)
        slot[:, into].copy_(narrow[:, out_of])
        slot[:, : into.start] = 0
        slot[:, into.stop :] = 0
    return wide


def gather_steps_slope(grad: torch.Tensor, before: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    """`gather_steps` of grad times the slope of the GELU at `before`, both (B, N, m)."""
    return gather_steps(torch.ops.aten.gelu_backward(grad, before), rows, steps)


def add_steps_gelu(wide: torch.Tensor, rows: int, steps: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N, len(steps) * m) -> (sum over steps of each slice at its distance in time, gelu of it), both (B, N, m)."""
    total = _added(wide, rows, steps)
    return total.to(wide.dtype), F.gelu(total).to(wide.dtype)


def add_steps(wide: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    """The same sum alone."""
    return _added(wide, rows, steps).to(wide.dtype)


def _added(wide: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    count = wide.shape[1]
    exact = torch.float64 if wide.dtype == torch.float64 else torch.float32
    slices = wide.split(wide.shape[-1] // len(steps), dim=-1)
    total = slices[len(steps) // 2].to(exact, copy=True)  # the steps are symmetric: the middle one is 0
    for piece, step in zip(slices, steps, strict=True):
        if step:
            into, out_of = _overlap(step * rows, count)
            total[:, into] += piece[:, out_of]
    return total


def _overlap(distance: int, count: int) -> tuple[slice, slice]:
    """Tokens that have a neighbour `distance` tokens further on, and those neighbours."""
    first, last = max(0, -distance), min(count, count - distance)
    return slice(first, last), slice(first + distance, last + distance)

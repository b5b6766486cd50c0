"""The temporal convolution as two library matrix products with one narrow, fused operation between them.

down: products of all time steps side by side, (tokens x C) @ (k m x C)^T, then shift, add and GELU in the middle width;
up:   gather the neighbours in the middle width, then (tokens x k m) @ (C x k m)^T, added to the attention output by
      the matrix product itself.
Compiled models call it as it is: a compiler would only take it apart.
No (tokens x C) tensor is transposed or copied, forward or backward. Between forward and backward only middle-width
tensors are kept, and the input for as long as `down` learns.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from types import ModuleType

import torch
from torch.autograd.function import once_differentiable

from . import shift_torch

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@torch.compiler.disable
def temporal_down(x: torch.Tensor, weight: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    """gelu(K_down * x): (B, N, C) -> (B, N, m).                       (DeT, arXiv 2503.17350, eq. 2, inner part)

    Args:
        weight: (len(steps) * m, C), one slice a step, in x's dtype.
        rows:   tokens of one time step. steps: symmetric distances in time, such as (-1, 0, 1), shorter than the video.
    """
    return _Down.apply(x, weight, rows, steps)


@torch.compiler.disable
def temporal_up(hidden: torch.Tensor, weight: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    """K_up * hidden: (B, N, m) -> (B, N, C), with weight (C, len(steps) * m).     (DeT, arXiv 2503.17350, eq. 2)"""
    return _Up.apply(None, hidden, weight, rows, steps)


@torch.compiler.disable
def temporal_up_onto(
    base: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, rows: int, steps: Sequence[int]
) -> torch.Tensor:
    """base + K_up * hidden, summed inside the matrix product. `base` (B, N, C) is of hidden's dtype; it is overwritten
    where no gradient is asked for, and may be a slice of a larger tensor."""
    if torch.is_grad_enabled():
        return _Up.apply(base, hidden, weight, rows, steps)
    neighbours = _operations(hidden).gather_steps(hidden, rows, steps)
    for to, of in zip(*_matrices(base, neighbours), strict=True):
        to.addmm_(of, weight.T)
    return base


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, rows, steps):
        before, hidden = _operations(x).add_steps_gelu(x @ weight.T, rows, steps)
        ctx.rows, ctx.steps = rows, steps
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(before, x if needs_weight else None, weight if needs_x else None)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        before, x, weight = ctx.saved_tensors
        # One slice a step of the middle-width gradient, moved back to the token that it came from.
        products = _operations(grad).gather_steps_slope(grad, before, ctx.rows, [-step for step in ctx.steps])
        return (
            None if weight is None else products @ weight,
            None if x is None else products.flatten(0, 1).T @ x.flatten(0, 1),
            None,
            None,
        )


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx, base, hidden, weight, rows, steps):
        ctx.rows, ctx.steps = rows, steps
        ctx.save_for_backward(hidden, weight)
        neighbours = _operations(hidden).gather_steps(hidden, rows, steps)
        if base is None:
            return neighbours @ weight.T
        if base.is_contiguous() or len(base) == 1:
            to, of = _matrices(base, neighbours)
            out = torch.empty_like(
                base, memory_format=torch.contiguous_format
            )  # no view: callers may add to it in place
            torch.addmm(to[0], of[0], weight.T, out=out.flatten(0, 1))
            return out
        return torch.baddbmm(base, neighbours, weight.T.expand(len(base), -1, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, weight = ctx.saved_tensors
        operations = _operations(grad)
        grad_hidden = grad_weight = None
        if ctx.needs_input_grad[1]:
            back = [-step for step in ctx.steps]
            grad_hidden = operations.add_steps(grad @ weight, ctx.rows, back)
        if ctx.needs_input_grad[2]:
            neighbours = operations.gather_steps(hidden, ctx.rows, ctx.steps)
            grad_weight = grad.flatten(0, 1).T @ neighbours.flatten(0, 1)
        return grad if ctx.needs_input_grad[0] else None, grad_hidden, grad_weight, None, None


def _matrices(base: torch.Tensor, neighbours: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Pairs of matrices to add to and from: one for the whole batch where its memory allows."""
    if base.is_contiguous():
        return [base.flatten(0, 1)], [neighbours.flatten(0, 1)]
    return list(base), list(neighbours)


def _operations(x: torch.Tensor) -> ModuleType:
    """Where the narrow operations run for `x`: Triton's kernels, or torch."""
    reason = _obstacle(x)
    if reason is not None:
        _say_once(reason)
        return shift_torch
    from . import shift_triton

    return shift_triton


def _obstacle(x: torch.Tensor) -> str | None:
    """Why Triton cannot run on `x`, or None."""
    if os.environ.get("DET_KERNELS") == "0":
        return "DET_KERNELS=0"
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"device {x.device.type}"
    if x.dtype not in DTYPES:
        return f"dtype {x.dtype}"
    if not _triton_runs(x.device, x.dtype):
        return "Triton is not installed or does not run"
    return None


@functools.cache
def _triton_runs(device: torch.device, dtype: torch.dtype) -> bool:
    """Triton may be missing, broken, or unable to build a kernel, as where there is no C compiler: a launch tells.
    None of it must stop anyone: there is the plain path."""
    try:
        from . import shift_triton
    except Exception as error:
        log.debug("no Triton: %s", error)
        return False
    try:
        shift_triton.gather_steps(torch.zeros(1, 1, 1, device=device, dtype=dtype), 1, [0])
    except torch.OutOfMemoryError:  # of the GPU, at this moment: no answer to keep
        raise
    except Exception as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        log.info("the temporal kernels run in plain torch: Triton does not run on %s in %s: %s", device, dtype, why)
        return False
    return True


@functools.cache
def _say_once(reason: str) -> None:
    log.debug("temporal kernels run in plain torch: %s", reason)

"""Random tensors and finite differences for tests of losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agrees_with_finite_difference(
    loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, tolerance: float = 2e-3
) -> bool:
    """The gradient of `loss` along a random direction, by autograd and by a central difference. Losses are reduced in
    float32, which bounds how small the step may be."""
    x = x.clone().requires_grad_()
    gradient = torch.autograd.grad(loss(x).sum(), x)[0]
    direction = randn(*x.shape, seed=99)
    step = 1e-3
    with torch.no_grad():
        difference = (loss(x + step * direction) - loss(x - step * direction)).sum() / (2 * step)
    return math.isclose((gradient * direction).sum().item(), difference.item(), rel_tol=tolerance)

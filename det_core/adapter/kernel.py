"""What can stand beside a block's attention: DeT's temporal kernel, or another module of this form."""

from __future__ import annotations

from typing import Protocol

import torch

Grid = tuple[int, int, int]


class Kernel(Protocol):
    """One block's module, in two halves so that only its narrow middle waits for the attention to finish.

    Convention: tokens are (B, T*H*W, C) with time slowest, then height, then width; `grid` is (T, H, W).
    """

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, C) attention inputs -> (B, T*H*W, m)."""

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, m) -> (B, T*H*W, C), added to the attention's output."""

    def expand_onto(self, base: torch.Tensor, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        """base + expand(hidden), for `base` (B, T*H*W, C): in base's own memory where no gradient is asked for, even if
        that is a slice of a larger tensor; as a new tensor otherwise."""
        residual = self.expand(hidden, grid).to(base.dtype)
        return base + residual if torch.is_grad_enabled() else base.add_(residual)

"""One block's share of a motion adapter: a temporal convolution down, a GELU, a temporal convolution up.

Video tokens are time-major, so the token of the same place one time step later is H*W rows further on. A convolution
over time is therefore one matrix product with all its taps side by side and a shift of whole rows in the narrow middle
width; no (tokens x channels) tensor is ever transposed or copied.
"""

from __future__ import annotations

import torch
from torch import nn

from ..kernels.temporal_conv import temporal_down, temporal_up, temporal_up_onto
from .kernel import Grid, Kernel


class TemporalKernel(nn.Module, Kernel):
    """K_up * gelu(K_down * I), convolved along time only and shared over space.      (DeT, arXiv 2503.17350, eq. 2)

    Convention: tokens are (B, T*H*W, C) with time slowest, then height, then width; `grid` is (T, H, W).
        `down.weight` is (mid_dim, dim, kernel_size) and `up.weight` (dim, mid_dim, kernel_size), as in `nn.Conv1d`.
        Neither has a bias; both pad with zeros at the two ends of time. `up` starts at zero: a new kernel adds nothing.
    Args:
        dim:         channels of the base model's tokens.
        mid_dim:     channels between the two convolutions.
        kernel_size: odd number of time steps seen at once by each convolution.
        init_std:    deviation of the initial `down` weights; None means 1.
        generator:   source of randomness for `down`; None means torch's global one.
    Raises:  ValueError on an even or non-positive kernel size.
    Note: the paper does not give the initialisation; the released code draws `down` from N(0, 1) and keeps the exact
        (erf) GELU, and so do we. With so large a `down` the first convolution is in effect a fixed random projection;
        on a small model an `init_std` near 1/sqrt(dim * kernel_size) learns better.
    """

    def __init__(
        self,
        dim: int,
        mid_dim: int = 128,
        kernel_size: int = 3,
        *,
        init_std: float | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"a temporal kernel needs an odd size (1, 3, 5, ...), got {kernel_size}")
        self.dim, self.mid_dim, self.kernel_size = dim, mid_dim, kernel_size
        self.down = nn.utils.skip_init(nn.Conv1d, dim, mid_dim, kernel_size, bias=False)
        self.up = nn.utils.skip_init(nn.Conv1d, mid_dim, dim, kernel_size, bias=False)
        nn.init.normal_(self.down.weight, std=1.0 if init_std is None else init_std, generator=generator)
        nn.init.zeros_(self.up.weight)

    @classmethod
    def from_weights(cls, down: torch.Tensor, up: torch.Tensor) -> TemporalKernel:
        """A kernel with these weights, (mid_dim, dim, kernel_size) and (dim, mid_dim, kernel_size), in their dtype."""
        mid_dim, dim, kernel_size = down.shape
        kernel = cls(dim, mid_dim, kernel_size, init_std=0.0).to(down.dtype)
        with torch.no_grad():
            kernel.down.weight.copy_(down)
            kernel.up.weight.copy_(up)
        return kernel

    def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, dim) -> residual (B, T*H*W, dim), computed in x's dtype."""
        return self.expand(self.hidden(x, grid), grid)

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """gelu(K_down * x): (B, T*H*W, dim) -> (B, T*H*W, mid_dim). All that has to be held until `expand`."""
        x = x.to(_compute_dtype(x))
        weight, steps = self._seen(self.down, grid, x)  # (mid_dim, dim, steps)
        return temporal_down(x, weight.permute(2, 0, 1).flatten(0, 1), grid[1] * grid[2], steps)

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        """K_up * hidden: (B, T*H*W, mid_dim) -> (B, T*H*W, dim)."""
        return temporal_up(hidden, *self._up(hidden, grid))

    def expand_onto(self, base: torch.Tensor, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        """base + K_up * hidden, in one pass where both have the same dtype."""
        if base.dtype == hidden.dtype:
            return temporal_up_onto(base, hidden, *self._up(hidden, grid))
        return super().expand_onto(base, hidden, grid)

    def _up(self, hidden: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, int, list[int]]:
        weight, steps = self._seen(self.up, grid, hidden)  # (dim, mid_dim, steps)
        return weight.transpose(1, 2).flatten(1), grid[1] * grid[2], steps

    def _seen(self, convolution: nn.Conv1d, grid: Grid, like: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """The weight in like's dtype and the distances in time it is for; those that only ever see padding are left
        out."""
        reach = min(self.kernel_size // 2, grid[0] - 1)
        unseen = self.kernel_size // 2 - reach
        weight = convolution.weight[..., unseen : self.kernel_size - unseen]
        return weight.to(device=like.device, dtype=like.dtype), list(range(-reach, reach + 1))


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype a matrix product of `x` has here: x's own, or what autocast asks for."""
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype

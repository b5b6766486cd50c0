"""Local attention: every token looks at its neighbours in time and space ("local attention" of the paper's Table 3).

The released code's version regroups its tokens by place but then attends over the tokens as they were, and does not
start at zero; this one is the idea carried out: its window slides, so no token is near a window's edge, offsets have a
learned bias, tokens outside the video are not seen, and the output projection starts at zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..adapter.beside_attention import BesideAttention
from ..adapter.kernel import Grid, Kernel
from ..models.families import DiTSpec


class LocalAttention(nn.Module, Kernel):
    """Multi-head attention of each token over a window (T, H, W) around it, in a narrow width; a new one adds nothing.

    Raises: ValueError if a side of the window is even, or `mid_dim` is not a multiple of `heads`.
    """

    def __init__(self, dim: int, mid_dim: int, window: Grid, heads: int, generator: torch.Generator):
        super().__init__()
        if any(size < 1 or size % 2 == 0 for size in window):
            raise ValueError(f"a window of local attention has odd sides, got {window}")
        if mid_dim % heads:
            raise ValueError(f"{mid_dim} channels cannot be shared by {heads} heads")
        self.window, self.heads = window, heads
        self.query, self.key, self.value = (nn.utils.skip_init(nn.Linear, dim, mid_dim, bias=False) for _ in range(3))
        self.out = nn.utils.skip_init(nn.Linear, mid_dim, dim, bias=False)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=dim**-0.5, generator=generator)
        nn.init.zeros_(self.out.weight)
        self.offset_bias = nn.Parameter(torch.zeros(heads, window[0] * window[1] * window[2]))

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        query = _projected(x, self.query).unflatten(-1, (self.heads, 1, -1))  # (B, S, heads, 1, width)
        key, value = (
            self._windows(_projected(x, layer), grid).unflatten(2, (self.heads, -1)) for layer in (self.key, self.value)
        )  # (B, S, heads, width, window)
        inside = self._windows(x.new_ones(1, x.shape[1], 1), grid)  # (1, S, 1, window), 0 outside the video
        logits = (query * key.shape[3] ** -0.5) @ key + self.offset_bias[:, None].to(x)
        weights = logits.masked_fill(inside[:, :, :, None] == 0, float("-inf")).softmax(-1).to(value.dtype)
        return (weights @ value.transpose(-1, -2)).flatten(2)

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        return _projected(hidden, self.out)

    def _windows(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, m) -> (B, T*H*W, m, window size), zeros outside the video."""
        volume = x.unflatten(1, grid)
        volume = F.pad(volume, [0, 0, *(size // 2 for size in reversed(self.window) for _ in range(2))])
        for axis, size in enumerate(self.window, start=1):
            volume = volume.unfold(axis, size, 1)
        return volume.flatten(1, 3).flatten(3)


def _projected(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(x, layer.weight.to(device=x.device, dtype=x.dtype))


def local_attention_adapter(
    spec: DiTSpec, mid_dim: int, generator: torch.Generator, window: Grid = (3, 3, 3), heads: int = 2
) -> BesideAttention:
    """Local attention for all blocks; a window of (5, 1, 1) sees what DeT's two convolutions of 3 see."""
    return BesideAttention.of_branches(
        spec, [LocalAttention(spec.dim, mid_dim, window, heads, generator) for _ in range(spec.num_blocks)]
    )

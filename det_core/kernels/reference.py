"""Eq. 2 of DeT as it reads: transpose, convolve, transpose back. What tests and benchmarks compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def temporal_conv_reference(
    x: torch.Tensor, down: torch.Tensor, up: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """K_up * gelu(K_down * x), two convolutions over time at every place.              (DeT, arXiv 2503.17350, eq. 2)

    Args:
        x:    (B, T*H*W, C), time-major; grid is (T, H, W).
        down: (m, C, k); up: (C, m, k), k odd, in x's dtype.
    Returns: (B, T*H*W, C).
    """
    time, height, width = grid
    batch, _, dim = x.shape
    half = down.shape[-1] // 2
    series = x.reshape(batch, time, height * width, dim).permute(0, 2, 3, 1).reshape(-1, dim, time)
    hidden = F.gelu(F.conv1d(series, down, padding=half))
    out = F.conv1d(hidden, up, padding=half)
    return out.reshape(batch, height * width, dim, time).permute(0, 3, 1, 2).reshape(batch, -1, dim)

"""Layers of Step-Video's codec: convolutions that see no later frame, norms frame by frame, causal attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class CausalConv3d(nn.Module):
    """Zeros stand before the first frame and around every frame."""

    def __init__(self, inputs: int, outputs: int, kernel: int, operations: Any, stride: int = 1, **factory):
        super().__init__()
        self.before, side = kernel - 1, kernel // 2
        self.conv = operations.Conv3d(inputs, outputs, kernel, stride=stride, padding=(0, side, side), **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 0, 0, 0, self.before, 0)) if self.before else x)


class PadDown2d(nn.Module):
    """Half the size of each frame; a line of zeros stands at its right and at its bottom."""

    def __init__(self, width: int, operations: Any, **factory):
        super().__init__()
        self.conv = operations.Conv2d(width, width, 3, stride=2, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_frame(self.conv, F.pad(x, (0, 1, 0, 1)))


def by_frame(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A layer of pictures over every frame of (B, C, T, H, W)."""
    batch = x.shape[0]
    return layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)


def frame_norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A GroupNorm whose statistics are of one frame."""
    return by_frame(norm, x)


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, operations: Any, **factory):
        super().__init__()
        self.norm1 = operations.GroupNorm(32, inputs, **factory)
        self.conv1 = CausalConv3d(inputs, outputs, 3, operations, **factory)
        self.norm2 = operations.GroupNorm(32, outputs, **factory)
        self.conv2 = CausalConv3d(outputs, outputs, 3, operations, **factory)
        if inputs != outputs:
            self.nin_shortcut = CausalConv3d(inputs, outputs, 1, operations, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(frame_norm(self.norm1, x)))
        h = self.conv2(F.silu(frame_norm(self.norm2, h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


def residual_blocks(inputs: int, outputs: int, count: int, operations: Any, **factory) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(outputs if i else inputs, outputs, operations, **factory) for i in range(count))


class CausalAttention(nn.Module):
    """One head over all cells in the order frame, row, column; a cell sees those before it, in its own frame too."""

    def __init__(self, width: int, operations: Any, **factory):
        super().__init__()
        self.norm = operations.GroupNorm(32, width, **factory)
        for name in ("q", "k", "v", "proj_out"):
            setattr(self, name, CausalConv3d(width, width, 1, operations, **factory))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = frame_norm(self.norm, x)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.proj_out(seen[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


def middle(width: int, operations: Any, **factory) -> nn.Module:
    mid = Middle()
    mid.block_1 = ResBlock(width, width, operations, **factory)
    mid.attn_1 = CausalAttention(width, operations, **factory)
    mid.block_2 = ResBlock(width, width, operations, **factory)
    return mid


class Middle(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class UpSpace(nn.Module):
    """Twice the height and width."""

    def __init__(self, width: int, operations: Any, **factory):
        super().__init__()
        self.conv = operations.Conv2d(width, width, 3, padding=1, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_frame(self.conv, F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))


class PostNormBlock(nn.Module):
    def __init__(self, width: int, operations: Any, **factory):
        super().__init__()
        self.conv1 = CausalConv3d(width, width, 3, operations, **factory)
        self.norm1 = operations.GroupNorm(32, width, **factory)
        self.conv2 = CausalConv3d(width, width, 3, operations, **factory)
        self.norm2 = operations.GroupNorm(32, width, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.silu(frame_norm(self.norm1, self.conv1(x)))
        return F.silu(frame_norm(self.norm2, self.conv2(h)) + x) + x


class UpTime(nn.Module):
    """Twice the frames, height and width."""

    def __init__(self, width: int, operations: Any, **factory):
        super().__init__()
        self.conv3d = PostNormBlock(width, operations, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3d(F.interpolate(x, scale_factor=2, mode="nearest"))


def upsampling(width: int, operations: Any, *, with_time: bool, **factory) -> nn.Module:
    return (UpTime if with_time else UpSpace)(width, operations, **factory)

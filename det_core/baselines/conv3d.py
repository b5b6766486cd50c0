"""Conv3D: DeT's adapter with kernels that also see neighbouring places (row "Conv3D" of the paper's Table 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..adapter.beside_attention import BesideAttention
from ..adapter.kernel import Grid, Kernel
from ..models.families import DiTSpec


class Conv3D(nn.Module, Kernel):
    """K_up * gelu(K_down * I) as in DeT's eq. 2, but convolved over time, height and width; zeros outside the video.

    `up` starts at zero, so a new branch adds nothing. Raises: ValueError on an even kernel size.
    """

    def __init__(self, dim: int, mid_dim: int, kernel_size: int, init_std: float, generator: torch.Generator):
        """init_std: deviation of the initial `down` weights; generator: a CPU one."""
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"a Conv3D adapter needs an odd kernel size (1, 3, 5, ...), got {kernel_size}")
        self.down = nn.utils.skip_init(nn.Conv3d, dim, mid_dim, kernel_size, padding="same", bias=False)
        self.up = nn.utils.skip_init(nn.Conv3d, mid_dim, dim, kernel_size, padding="same", bias=False)
        nn.init.normal_(self.down.weight, std=init_std, generator=generator)
        nn.init.zeros_(self.up.weight)

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        return F.gelu(_convolved(x, self.down, grid))

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        return _convolved(hidden, self.up, grid)


def _convolved(x: torch.Tensor, convolution: nn.Conv3d, grid: Grid) -> torch.Tensor:
    volume = x.transpose(1, 2).unflatten(2, grid)
    weight = convolution.weight.to(device=x.device, dtype=x.dtype)
    return F.conv3d(volume, weight, padding="same").flatten(2).transpose(1, 2)


def conv3d_adapter(spec: DiTSpec, mid_dim: int, generator: torch.Generator, kernel_size: int = 3) -> BesideAttention:
    """A Conv3D adapter for all blocks.

    The first convolution's answers start with the deviation that the base model's temporal kernels start with, whatever
    the number of weights summed up. At k = 3 it has nine times the parameters of a temporal kernel of the same width.
    """
    defaults = spec.defaults
    temporal_std = 1.0 if defaults.init_std is None else defaults.init_std
    init_std = temporal_std * (defaults.kernel_size / kernel_size**3) ** 0.5
    return BesideAttention.of_branches(
        spec, [Conv3D(spec.dim, mid_dim, kernel_size, init_std, generator) for _ in range(spec.num_blocks)]
    )

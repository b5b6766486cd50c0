"""Eq. 2 as it reads, as an adapter to compare with: transpose, Conv1d, GELU, Conv1d, transpose back, add."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.adapter.temporal_kernel import Grid, TemporalKernel
from det_core.kernels.reference import temporal_conv_reference
from det_core.models.families import DiTSpec


class LiteralKernel(nn.Module):
    """A temporal kernel's weights, computed by the reference; no tap keeps anything narrow."""

    def __init__(self, kernel: TemporalKernel):
        super().__init__()
        self.down, self.up = nn.Parameter(kernel.down.weight.detach()), nn.Parameter(kernel.up.weight.detach())

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        return temporal_conv_reference(x, self.down.to(x.dtype), self.up.to(x.dtype), grid)

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        return hidden


class LiteralAdapter(nn.Module):
    """As much of a `MotionAdapter` as `attach` asks for."""

    def __init__(self, adapter: MotionAdapter):
        super().__init__()
        self.keep = adapter.keep
        self.kernels = nn.ModuleDict({str(i): LiteralKernel(kernel) for i, kernel in adapter.kernels.items()})

    def kernels_for(self, spec: DiTSpec, keep: Iterable[int] | None = None) -> dict[int, nn.Module]:
        return {i: self.kernels[str(i)] for i in (range(spec.num_blocks) if keep is None else keep)}

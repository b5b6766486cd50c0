"""What the paper's adapter comparison has in common: a small module beside every block's attention, of any make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from ..adapter.attach import attach
from ..models.families import DiTSpec, format_blocks, kept_blocks

Grid = tuple[int, int, int]


class Branch(Protocol):
    """One block's module, in two halves so that only its narrow middle waits for the attention to finish."""

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, C) attention inputs -> (B, T*H*W, m); tokens are time-major, `grid` is (T, H, W)."""

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T*H*W, m) -> (B, T*H*W, C), added to the attention's output."""


class BesideAttention(nn.Module):
    """A branch for every block, which `det_core.adapter.attach.attach` puts where DeT's temporal kernels go.

    Attributes:
        blocks: the branches, one a block, in the model's order.
        keep:   the blocks that stay when sampling; as for DeT, the first 35% unless changed.
    """

    def __init__(self, spec: DiTSpec, branches: Iterable[nn.Module]):
        super().__init__()
        self.base_model, self.num_blocks, self.dim = spec.name, spec.num_blocks, spec.dim
        self.blocks = nn.ModuleList(branches)
        self.keep = kept_blocks(spec.num_blocks, spec.defaults.drop_fraction)

    def kernels_for(self, spec: DiTSpec, keep: Iterable[int] | None = None) -> Mapping[int, Branch]:
        """The branches of the blocks `keep`, or all. Raises ValueError for another model or a block it has not."""
        if (self.base_model, self.num_blocks, self.dim) != (spec.name, spec.num_blocks, spec.dim):
            raise ValueError(
                f"this adapter was made for {self.base_model} with {self.num_blocks} blocks of {self.dim} channels, "
                f"but the model is {spec.describe()}: train an adapter for this one"
            )
        chosen = sorted(range(self.num_blocks) if keep is None else set(keep))
        if unknown := [index for index in chosen if not 0 <= index < self.num_blocks]:
            raise ValueError(
                f"there is no block {unknown[0]} to keep: this adapter has {format_blocks(range(self.num_blocks))}"
            )
        return {index: self.blocks[index] for index in chosen}

    def attached_to(
        self, transformer: nn.Module, *, keep: Iterable[int] | None = None, strength: float = 1.0
    ) -> AbstractContextManager:
        """Act in a diffusers transformer, see `attach`."""
        return attach(transformer, self, keep=keep, strength=strength)

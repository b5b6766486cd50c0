"""An adapter of one kernel a block, beside the attention, whatever its kernels are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from torch import nn

from ..models.families import DiTSpec, format_blocks, kept_blocks, parse_blocks
from ..models.families.spec import described
from .attach import attach
from .kernel import Kernel


class BesideAttention(nn.Module):
    """Attributes:
    blocks:   the kernels by block number as text, so that tensors are named `blocks.{i}...`.
    metadata: text that belongs to it, str -> str. `kept_blocks` ("0-14") are the blocks advised for sampling,
        `base_version` the version of the base model, where it has several.
    """

    def __init__(self, base_model: str, num_blocks: int, dim: int, kernels: Mapping[int, nn.Module]):
        """base_model, num_blocks, dim: of the model it fits, as `DiTSpec` has them. kernels: by block number."""
        super().__init__()
        self.base_model, self.num_blocks, self.dim = base_model, num_blocks, dim
        self.blocks = nn.ModuleDict({str(index): kernel for index, kernel in kernels.items()})
        self.metadata: dict[str, str] = {"kept_blocks": format_blocks(kept_blocks(num_blocks))}

    @classmethod
    def of_branches(cls, spec: DiTSpec, branches: Iterable[nn.Module]) -> BesideAttention:
        """For the model `spec`, with a branch for each of its blocks, in their order."""
        adapter = cls(spec.name, spec.num_blocks, spec.dim, dict(enumerate(branches)))
        adapter.advise(spec)
        return adapter

    def advise(self, spec: DiTSpec, dropped: float | None = None) -> None:
        """Advise to sample with the first blocks. dropped: share of the others; None takes the model's own."""
        dropped = spec.defaults.drop_fraction if dropped is None else dropped
        self.metadata["kept_blocks"] = format_blocks(kept_blocks(spec.num_blocks, dropped))

    @property
    def kernels(self) -> dict[int, Kernel]:
        """The kernels by block number."""
        return {int(index): kernel for index, kernel in self.blocks.items()}

    @property
    def keep(self) -> list[int]:
        """The blocks that should keep their kernel when sampling."""
        advised = parse_blocks(self.metadata["kept_blocks"], self.num_blocks)
        return [index for index in advised if index in self.kernels]

    def describe(self) -> str:
        """The base model it was made for, in a message."""
        return described(self.base_model, self.metadata.get("base_version", ""), self.num_blocks, self.dim)

    def kernels_for(self, spec: DiTSpec, keep: Iterable[int] | None = None) -> dict[int, Kernel]:
        """The kernels to put on the model `spec`: those of the blocks `keep`, or all.

        Raises ValueError naming both models if the adapter was made for another one, or the block that does not exist.
        """
        version = self.metadata.get("base_version", "")
        spec.check_made_for("motion adapter", self.base_model, self.num_blocks, self.dim, version)
        kernels = self.kernels
        chosen = sorted(kernels if keep is None else set(keep))
        if unknown := [index for index in chosen if index not in kernels]:
            raise ValueError(f"there is no block {unknown[0]} to keep: this adapter has {format_blocks(kernels)}")
        return {index: kernels[index] for index in chosen}

    def attached_to(
        self, transformer: nn.Module, *, keep: Iterable[int] | None = None, strength: float = 1.0
    ) -> AbstractContextManager:
        """Act in a diffusers transformer, see `attach`."""
        return attach(transformer, self, keep=keep, strength=strength)

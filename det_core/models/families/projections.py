"""Where the attention projections q, k, v and o of every block are, in both layouts of every base model.

HunyuanVideo's native layout fuses q, k and v (in its single-stream blocks the MLP as well) into one layer: a projection
is then a range of that layer's outputs. Its single-stream blocks have no attention output projection of their own.
Step-Video's fused layer goes head by head: q, k and v of the first head, then of the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from .spec import DiTSpec, Layout, unwrapped

KINDS = ("q", "k", "v", "o")
DIFFUSERS = ("to_q", "to_k", "to_v", "to_out.0")  # the names of the kinds in a diffusers attention module


@dataclass(frozen=True)
class Projection:
    """One projection of one block: the linear layer at `path`, or the part of its outputs with this number.

    parts:      of the layer, of one width: 1 for a layer that is only this one.
    head_width: where the layer goes head by head, so many outputs of each part in turn; None: part by part.
    """

    path: str
    part: int = 0
    parts: int = 1
    head_width: int | None = None

    @property
    def fused(self) -> bool:
        return self.parts > 1

    def taken(self, outputs: torch.Tensor) -> torch.Tensor:
        """This projection's share of the layer's outputs (..., parts * width) -> (..., width)."""
        if not self.fused:
            return outputs
        width = self.head_width or outputs.shape[-1] // self.parts
        return outputs.unflatten(-1, (-1, self.parts, width))[..., self.part, :].flatten(-2)

    def placed(self, share: torch.Tensor) -> torch.Tensor:
        """The inverse of `taken`: (..., width) -> (..., parts * width), zero for the other parts."""
        if not self.fused:
            return share
        heads = share.unflatten(-1, (-1, self.head_width or share.shape[-1]))
        parts = [heads if part == self.part else torch.zeros_like(heads) for part in range(self.parts)]
        return torch.stack(parts, dim=-2).flatten(-3)


@dataclass(frozen=True)
class Stack:
    """One list of like blocks: its name and, under a block, the layer of each kind as (path, part, parts of it).

    by_head: its fused layers go head by head.
    """

    name: str
    layers: dict[str, tuple[str, int, int]]
    by_head: bool = False

    @classmethod
    def plain(cls, name: str, attention: str, names: tuple[str, ...] = DIFFUSERS) -> Stack:
        """A layer for each kind, in a module `attention` ("" for the block itself)."""
        prefix = f"{attention}." if attention else ""
        return cls(name, {kind: (prefix + path, 0, 1) for kind, path in zip(KINDS, names, strict=False)})

    @classmethod
    def fused(cls, name: str, path: str, parts: int, output: str | None = None, *, by_head: bool = False) -> Stack:
        """q, k and v are the first of `parts` parts of the layer at `path`; o, if there is one, is at `output`."""
        layers = {kind: (path, part, parts) for part, kind in enumerate("qkv")}
        return cls(name, {**layers, "o": (output, 0, 1)} if output else layers, by_head)


def projections(spec: DiTSpec, layout: Layout | None = None) -> dict[tuple[int, str], Projection]:
    """The projections (block, "q" | "k" | "v" | "o") of a base model; `layout` None means the one that `spec` has."""
    side = ("diffusers", "native").index(layout or spec.layout)
    own = ("diffusers", "native").index(spec.layout)
    found = {}
    for block, tap in enumerate(spec.taps):
        expert, stack, number = re.match(r"(.*?)(\w+)\.(\d+)\.", tap.input).groups()
        pair = next(pair for pair in spec.family.stacks if pair[own].name == stack)
        for kind, (path, part, parts) in pair[side].layers.items():
            width = spec.head_width if pair[side].by_head and parts > 1 else None
            found[block, kind] = Projection(f"{expert}{pair[side].name}.{number}.{path}", part, parts, width)
    return found


def head_count(model: nn.Module, spec: DiTSpec) -> int:
    """Attention heads of each block. Raises ValueError, naming the model, if they cannot be told."""
    model = unwrapped(model)
    for owner, name in ((getattr(model, "config", None), "num_attention_heads"), (model, "num_heads")):
        if isinstance(count := getattr(owner, name, None), int):
            return count
    tap = spec.taps[0].input
    for owner in (model.get_submodule(".".join(tap.split(".")[:2])), model.get_submodule(tap)):
        for name in ("num_heads", "heads"):
            if isinstance(count := getattr(owner, name, None), int):
                return count
    raise ValueError(f"the attention of {type(model).__name__} cannot be read head by head: it does not tell its heads")

"""Where the attention projections q, k, v and o of every block are, in both layouts of every base model.

HunyuanVideo's native layout fuses q, k and v (in its single-stream blocks the MLP as well) into one layer: a projection
is then a range of that layer's outputs. Its single-stream blocks have no attention output projection of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from .spec import DiTSpec, Layout, unwrapped

KINDS = ("q", "k", "v", "o")
DIFFUSERS = ("to_q", "to_k", "to_v", "to_out.0")  # the names of the kinds in a diffusers attention module


@dataclass(frozen=True)
class Projection:
    """One projection of one block: the linear layer at `path`, its outputs from `first` on.

    outputs: number of outputs of the whole layer, in units of the model's width: 1 for a layer that is only this one.
    """

    path: str
    first: int = 0
    outputs: int = 1

    @property
    def fused(self) -> bool:
        return self.outputs > 1


@dataclass(frozen=True)
class Stack:
    """One list of like blocks: its name and, under a block, the layer of each kind as (path, part, parts of it)."""

    name: str
    layers: dict[str, tuple[str, int, int]]

    @classmethod
    def plain(cls, name: str, attention: str, names: tuple[str, ...] = DIFFUSERS) -> Stack:
        """A layer for each kind, in a module `attention` ("" for the block itself)."""
        prefix = f"{attention}." if attention else ""
        return cls(name, {kind: (prefix + path, 0, 1) for kind, path in zip(KINDS, names, strict=False)})

    @classmethod
    def fused(cls, name: str, path: str, parts: int, output: str | None = None) -> Stack:
        """q, k and v are the first of `parts` parts of the layer at `path`; o, if there is one, is at `output`."""
        layers = {kind: (path, part, parts) for part, kind in enumerate("qkv")}
        return cls(name, {**layers, "o": (output, 0, 1)} if output else layers)


def projections(spec: DiTSpec, layout: Layout | None = None) -> dict[tuple[int, str], Projection]:
    """The projections (block, "q" | "k" | "v" | "o") of a base model; `layout` None means the one that `spec` has."""
    side = ("diffusers", "native").index(layout or spec.layout)
    own = ("diffusers", "native").index(spec.layout)
    found = {}
    for block, tap in enumerate(spec.taps):
        expert, stack, number = re.match(r"(.*?)(\w+)\.(\d+)\.", tap.input).groups()
        pair = next(pair for pair in spec.family.stacks if pair[own].name == stack)
        for kind, (path, part, parts) in pair[side].layers.items():
            found[block, kind] = Projection(f"{expert}{pair[side].name}.{number}.{path}", part * spec.dim, parts)
    return found


def head_count(model: nn.Module, spec: DiTSpec) -> int:
    """Attention heads of each block. Raises ValueError, naming the model, if they cannot be told."""
    model = unwrapped(model)
    for owner, name in ((getattr(model, "config", None), "num_attention_heads"), (model, "num_heads")):
        if isinstance(count := getattr(owner, name, None), int):
            return count
    first = model.get_submodule(".".join(spec.taps[0].input.split(".")[:2]))
    for owner in (first, getattr(first, "attn1", None)):
        for name in ("num_heads", "heads"):
            if isinstance(count := getattr(owner, name, None), int):
                return count
    raise ValueError(f"the attention of {type(model).__name__} cannot be read head by head: it does not tell its heads")

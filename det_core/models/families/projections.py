"""Where the attention projections q, k, v and o of every block are, in both layouts of every base model.

HunyuanVideo's native layout fuses q, k and v (in its single-stream blocks the MLP as well) into one layer: a projection
is then a range of that layer's outputs. Its single-stream blocks have no attention output projection of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from . import DiTSpec, unwrapped

Layout = Literal["diffusers", "native"]
KINDS = ("q", "k", "v", "o")


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
class _Stack:
    """One list of like blocks: its name and, under a block, the layer of each kind with its part in a fused layer."""

    name: str
    layers: dict[str, tuple[str, int, int]]  # kind -> (path, part, parts)


def _plain(name: str, *paths: str) -> _Stack:
    return _Stack(name, {kind: (path, 0, 1) for kind, path in zip(KINDS, paths, strict=False)})


_DIFFUSERS = ("to_q", "to_k", "to_v", "to_out.0")


def _attention(name: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}.{n}" for n in names)


def _fused(name: str, path: str, parts: int, output: str | None = None) -> _Stack:
    layers = {kind: (path, part, parts) for part, kind in enumerate("qkv")}
    return _Stack(name, {**layers, "o": (output, 0, 1)} if output else layers)


# One entry for every list of blocks of a family: (diffusers, native).
_ATTN1 = _attention("attn1", *_DIFFUSERS)
_COGVIDEOX = ((_plain("transformer_blocks", *_ATTN1), _plain("blocks", *"qkv", "attn_out")),)
_STACKS: dict[str, tuple[tuple[_Stack, _Stack], ...]] = {
    "cogvideox": _COGVIDEOX,
    "embedded": _COGVIDEOX,
    "wan": (
        (_plain("blocks", *_attention("attn1", *_DIFFUSERS)), _plain("blocks", *_attention("self_attn", *"qkvo"))),
    ),
    "ltx": ((_plain("transformer_blocks", *_ATTN1),) * 2,),
    "hunyuan_video": (
        (
            _plain("transformer_blocks", *_attention("attn", *_DIFFUSERS)),
            _fused("double_blocks", "img_attn.qkv", 3, "img_attn.proj"),
        ),
        (
            _plain("single_transformer_blocks", *_attention("attn", *_DIFFUSERS[:3])),
            _fused("single_blocks", "linear1", 7),  # q, k, v and an MLP four times as wide as the model
        ),
    ),
}


def projections(spec: DiTSpec, layout: Layout | None = None) -> dict[tuple[int, str], Projection]:
    """The projections (block, "q" | "k" | "v" | "o") of a base model; `layout` None means the one that `spec` has."""
    side = ("diffusers", "native").index(layout or spec.layout)
    own = ("diffusers", "native").index(spec.layout)
    found = {}
    for block, tap in enumerate(spec.taps):
        stack, number = tap.input.split(".")[:2]
        pair = next(pair for pair in _STACKS[spec.name] if pair[own].name == stack)
        for kind, (path, part, parts) in pair[side].layers.items():
            found[block, kind] = Projection(f"{pair[side].name}.{number}.{path}", part * spec.dim, parts)
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


def video_slice(spec: DiTSpec, tokens: int, grid: tuple[int, int, int]) -> slice:
    """Which of a diffusers attention's `tokens` are the video's: HunyuanVideo puts its text last, CogVideoX first.

    Raises ValueError if there are fewer tokens than the grid has, or others where none should be.
    """
    count = math.prod(grid)
    if tokens == count:
        return slice(0, count)
    if tokens > count and spec.name == "hunyuan_video":
        return slice(0, count)
    if tokens > count and spec.name in ("cogvideox", "embedded"):
        return slice(tokens - count, tokens)
    raise ValueError(f"{spec.name}: {tokens} tokens in attention, but the video has {count}: remove reference frames")

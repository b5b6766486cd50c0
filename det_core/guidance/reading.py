"""Read a video DiT in the middle of a call: what one block gives, or the queries and keys of its attention.

The reader works inside the call, while all that wraps the model (adapters, LoRAs) is in place, so that a gradient taken
there, with blocks computed again, sees the model of the forward. Then the call is left: no later block is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..models.attention_calls import AttentionCalls, torch_attention
from ..models.compute.checkpointing import block_paths
from ..models.families import DiTSpec, unwrapped
from ..models.families.spec import video_slice
from ..models.overriding import overridden

Grid = tuple[int, int, int]
TokenReader = Callable[[torch.Tensor], Any]  # gets (B, T*H*W, C), time-major
AttentionReader = Callable[[torch.Tensor, torch.Tensor], Any]  # gets q and k, (B, heads, T*H*W, width)


class Read(Exception):
    """Leaves a call of the model with what was read."""

    def __init__(self, result: Any):
        super().__init__("the model was left in the middle of a call")
        self.result = result


def left_early(call: Callable[[], Any], overrides: Iterable[tuple[nn.Module, Callable]]) -> Any:
    """Run `call` under `overrides` until one of them raises `Read`; returns what was read."""
    try:
        with overridden(overrides):
            call()
    except Read as read:
        return read.result
    raise RuntimeError("the model ended its call without passing the block that is to be read")


def read_tokens(
    transformer: nn.Module, spec: DiTSpec, block: int, grid: Grid, call: Callable[[], Any], reader: TokenReader
) -> Any:
    """What `reader` makes of the video tokens that block `block` gives in `call`, in either layout. Of two experts, the
    one that has the block is called, at whatever time.

    Raises: ValueError, in the call, if the tokens are not the grid's.
    """
    module = unwrapped(transformer).get_submodule(block_paths(spec)[block])
    forward, place = module.forward, f"guidance at block {block}"

    def read(*args, **kwargs):
        result = forward(*args, **kwargs)
        tokens = result[0] if isinstance(result, tuple) else result
        video = video_slice(spec.taps[block].tokens, tokens.shape[1], grid, place)
        raise Read(_exactly(reader, tokens[:, video]))

    with _expert_of(transformer, spec, block):
        return left_early(call, [(module, read)])


def read_attention(
    transformer: nn.Module, spec: DiTSpec, block: int, grid: Grid, call: Callable[[], Any], reader: AttentionReader
) -> Any:
    """What `reader` makes of the video's q and k in block `block` of a diffusers transformer, norm and positions in."""
    module = unwrapped(transformer).get_submodule(spec.taps[block].input)
    forward = module.forward

    def seen(q: torch.Tensor, k: torch.Tensor) -> None:
        video = video_slice(spec.attention, q.shape[2], grid, f"guidance at block {block}")
        raise Read(_exactly(reader, q[:, :, video], k[:, :, video]))

    def read(*args, **kwargs):
        with AttentionCalls(seen):
            return forward(*args, **kwargs)

    with torch_attention(module), _expert_of(transformer, spec, block):
        return left_early(call, [(module, read)])


def _expert_of(transformer: nn.Module, spec: DiTSpec, block: int) -> AbstractContextManager:
    name = spec.expert_of(block)
    return nullcontext() if name is None else unwrapped(transformer).alone(name)


def _exactly(reader: Callable, *tensors: torch.Tensor) -> Any:
    """The reader's answer, computed as it is written: the call may be under autocast."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        return reader(*tensors)

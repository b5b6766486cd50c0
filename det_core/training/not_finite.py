"""After a NaN: which block of the base model it came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ..models.compute.checkpointing import block_paths
from ..models.families import DiTSpec, unwrapped


@torch.no_grad()
def first_bad_block(transformer: nn.Module, spec: DiTSpec, run: Callable[[], Any]) -> str:
    """Run the model once more and say in one sentence where the first number that is not finite appears."""
    blocks = Watched(spec.num_blocks)
    model = unwrapped(transformer)
    hooks = [
        model.get_submodule(path).register_forward_hook(partial(blocks.look, index), with_kwargs=True)
        for index, path in enumerate(block_paths(spec))
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if blocks.bad is not None:
        return f"It first appears in {blocks.bad}."
    return "Every block's forward is finite: it appears after the last block, or in backward."


class Watched:
    """Remembers in words the first of `count` blocks whose forward is not finite."""

    def __init__(self, count: int):
        self.count, self.bad = count, None

    def look(self, index: int, _module: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
        """The forward hook of block `index`."""
        if self.bad is not None or _finite(result):
            return
        before = "the input of " if index == 0 and not (_finite(args) and _finite(kwargs)) else ""
        self.bad = f"{before}block {index} of {self.count}"


def _finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(_finite(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(_finite(v) for v in value)
    return True

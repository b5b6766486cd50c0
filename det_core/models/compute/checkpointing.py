"""Trade time for memory in training: compute a block again during backward instead of keeping what is inside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, set_checkpoint_early_stop

from ..families import DiTSpec, unwrapped
from ..overriding import Forward, overridden

POLICIES = ("none", "attention", "full")  # from fast to small

_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)


def block_paths(spec: DiTSpec) -> list[str]:
    """Module path of every block of a transformer, in the order they run."""
    return [re.match(r".*?\.\d+(?=\.|$)", tap.input)[0] for tap in spec.taps]


@contextmanager
def checkpointed(transformer: nn.Module, spec: DiTSpec, policy: str, first: int | None = None) -> Iterator[None]:
    """Inside, every block of `transformer`, or the `first` ones, keep for their backward what `policy` says.

    "none":      everything; nothing is computed twice.
    "attention": the block's input and the result of its attention, which is the dearest part to compute again.
    "full":      the block's input; forward is computed twice.
    Gradients are the same. Backward must happen inside as well.
    """
    if policy not in POLICIES:
        raise ValueError(f"checkpointing is one of {', '.join(POLICIES)}; got {policy!r}")
    if policy == "none":
        yield
        return
    blocks = [unwrapped(transformer).get_submodule(path) for path in block_paths(spec)[:first]]
    # A block whose weights come and go (accelerate's hook) has to reach its end again, or they would stay.
    pairs = [(block, CheckpointedForward(block.forward, policy, whole=hasattr(block, "_hf_hook"))) for block in blocks]
    with overridden(pairs):
        yield


class CheckpointedForward:
    """A block's forward under "attention" or "full". `whole` computes it again to its end, not only as far as backward
    needs."""

    def __init__(self, forward: Forward, policy: str, *, whole: bool = False):
        self.forward, self.whole = forward, whole
        self.settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        if policy == "attention":
            self.settings["context_fn"] = partial(create_selective_checkpoint_contexts, _attention_operators())

    def __call__(self, *args, **kwargs):
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        with set_checkpoint_early_stop(not self.whole):
            return checkpoint(self.forward, *args, **self.settings, **kwargs)


def _attention_operators() -> list:
    """The attention operators that this build of torch has."""
    found = [getattr(torch.ops.aten, name, None) for name in _ATTENTION]
    return [operator.default for operator in found if operator is not None]

"""Trade time for memory in training: compute a block again during backward instead of keeping what is inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, set_checkpoint_early_stop

from ..families import DiTSpec, unwrapped
from ..overriding import overridden

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
    forwards = [checkpointed_forward(block.forward, policy, whole=hasattr(block, "_hf_hook")) for block in blocks]
    with overridden(zip(blocks, forwards, strict=True)):
        yield


def checkpointed_forward(forward: Callable, policy: str, *, whole: bool = False) -> Callable:
    """A block's forward under "attention" or "full". `whole` computes it again to its end, not only as far as
    backward needs."""
    keep = {"context_fn": partial(create_selective_checkpoint_contexts, _attention_operators())}
    settings = {"use_reentrant": False, "preserve_rng_state": False, **(keep if policy == "attention" else {})}

    def forward_checkpointed(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        with set_checkpoint_early_stop(not whole):
            return checkpoint(forward, *args, **settings, **kwargs)

    return forward_checkpointed


def _attention_operators() -> list:
    """The attention operators that this build of torch has."""
    found = [getattr(torch.ops.aten, name, None) for name in _ATTENTION]
    return [operator.default for operator in found if operator is not None]

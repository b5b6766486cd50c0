"""Blocks that work in place or with fused kernels that have no gradient, made fit for a backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

try:  # a comfy-kitchen without it comes with a core that has no MiniMax H3
    from comfy_kitchen.backends.eager.rope import rms_rope_split_half as _rms_rope
except ImportError:
    _rms_rope = None

_NORMS = {F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm}


def copied(value):
    """Conditioning with every tensor in it cloned out of inference mode."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(v) for v in value)
    return value


class _CopyBeforeNorm(TorchFunctionMode):
    """Norms save their input for backward; a block that then adds to that input in place would spoil it. The fused norm
    and rotation of MiniMax H3 has no gradient at all: the same in plain torch takes its place."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if _rms_rope is not None and func is torch.ops.comfy_kitchen.rms_rope_split_half:
            func = _rms_rope
        if func in _NORMS and isinstance(args[0], torch.Tensor) and args[0].requires_grad:
            args = (args[0].clone(), *args[1:])
        return func(*args, **(kwargs or {}))


def protected(forward: Callable, *args, **kwargs):
    """The forward of a block that works in place: on copies of its tokens, and of what its norms keep."""
    with _CopyBeforeNorm():
        return forward(*map(_token_copy, args), **{k: _token_copy(v) for k, v in kwargs.items()})


def _token_copy(value):
    """Token streams copied: (B, N, C), or (N, C) of one sequence, or a pair of them."""
    if isinstance(value, (tuple, list)) and value and all(isinstance(v, torch.Tensor) for v in value):
        return type(value)(map(_token_copy, value))
    tokens = isinstance(value, torch.Tensor) and value.ndim in (2, 3) and value.is_floating_point()
    return value.clone() if tokens else value

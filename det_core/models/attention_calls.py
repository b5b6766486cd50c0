"""Read q and k of a diffusers transformer's self-attention, as the model itself computed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from .embedded.attention import MatmulAttention


class AttentionCalls(TorchFunctionMode):
    """Shows q and k (B, heads, tokens, width) of each call of torch's attention to a callback."""

    def __init__(self, seen: Callable[[torch.Tensor, torch.Tensor], None]):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key"), args, strict=False)) | kwargs
            self.seen(named["query"], named["key"])
        return func(*args, **kwargs)


@contextmanager
def torch_attention(*modules: nn.Module) -> Iterator[None]:
    """Inside, these attention modules of the embedded model call torch's attention: their own is written out for speed
    on CPUs. Other models' are left as they are."""
    swapped = [m for m in modules if isinstance(getattr(m, "processor", None), MatmulAttention)]
    processors = [module.processor for module in swapped]
    try:
        for module in swapped:
            from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

            module.processor = CogVideoXAttnProcessor2_0()
        yield
    finally:
        for module, processor in zip(swapped, processors, strict=True):
            module.processor = processor

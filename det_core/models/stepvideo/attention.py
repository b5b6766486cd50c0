"""The attention function of all parts of Step-Video-T2V, with the signature of ComfyUI's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Attention = Callable[..., torch.Tensor]


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask: torch.Tensor | None = None, **_unused
) -> torch.Tensor:
    """(B, L, heads * width) queries, keys and values -> (B, L, heads * width).

    mask: added to the scores, broadcastable to (B, heads, L, S). Keywords that ComfyUI's attention takes are ignored.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

"""Step-LLM, the language model whose states are Step-Video's text: 48 layers, causal, grouped keys and values.

It has no rotary positions; a score falls with the square root of the distance. There is no last norm and no head: the
states are those after the last layer. Names and shapes of the parameters are those of the published files.

Note: the published model computes its attention in a closed library. The formula here (-slope sqrt(distance), causal)
    is StepFun's own published fallback of a sister model that calls the same library; nobody could compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-5
HEAD_WIDTH = 128


class StepAttention(nn.Module):
    """Rows of `wqkv`: all queries head by head, then k and v of the first group of heads, of the second, and so on."""

    def __init__(self, dim: int, heads: int, groups: int, operations: Any, **factory):
        super().__init__()
        self.heads, self.groups, self.width = heads, groups, dim // heads
        self.wqkv = operations.Linear(dim, dim + 2 * groups * self.width, bias=False, **factory)
        self.wo = operations.Linear(dim, dim, bias=False, **factory)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """x: (B, L, dim); bias: (heads, L, L), added to the scores."""
        q, kv = self.wqkv(x).split([self.heads * self.width, 2 * self.groups * self.width], dim=-1)
        k, v = kv.unflatten(-1, (self.groups, 2 * self.width)).chunk(2, dim=-1)
        q = q.unflatten(-1, (self.heads, self.width)).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=2).transpose(1, 2) for t in (k, v))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        return self.wo(seen.transpose(1, 2).flatten(2))


class StepFeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, operations: Any, **factory):
        super().__init__()
        self.w1 = operations.Linear(dim, 2 * hidden, bias=False, **factory)
        self.w2 = operations.Linear(hidden, dim, bias=False, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.w1(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * value)


class StepLayer(nn.Module):
    def __init__(self, dim: int, heads: int, groups: int, hidden: int, operations: Any, **factory):
        super().__init__()
        self.attention_norm = operations.RMSNorm(dim, eps=EPS, **factory)
        self.attention = StepAttention(dim, heads, groups, operations, **factory)
        self.ffn_norm = operations.RMSNorm(dim, eps=EPS, **factory)
        self.feed_forward = StepFeedForward(dim, hidden, operations, **factory)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.feed_forward(self.ffn_norm(x))


class StepLLM(nn.Module):
    """The defaults are the published model: 19.6 billion parameters."""

    def __init__(
        self,
        *,
        dim: int = 6144,
        heads: int = 48,
        groups: int = 8,
        layers: int = 48,
        ffn: int = 16896,
        vocabulary: int = 65536,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        """ffn: width of the MLP, rounded up to a multiple of 256 as the reference does."""
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.heads = heads
        self.tok_embeddings = nn.Module()
        self.tok_embeddings.word_embeddings = operations.Embedding(vocabulary, dim, **factory)
        hidden = math.ceil(ffn / 256) * 256
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            StepLayer(dim, heads, groups, hidden, operations, **factory) for _ in range(layers)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids (B, L), padding last -> states (B, L, dim). A token sees itself and those before it, so never padding."""
        return self.states(self.tok_embeddings.word_embeddings(tokens))

    def states(self, embedded: torch.Tensor) -> torch.Tensor:
        """The layers alone, on embedded tokens (B, L, dim)."""
        bias = distance_bias(self.heads, embedded.shape[1], embedded.device)
        for layer in self.transformer.layers:
            embedded = layer(embedded, bias)
        return embedded


def published_sizes(state_dict: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The sizes for `StepLLM` that these weights have, read from their shapes; a head is 128 channels wide.

    Raises: ValueError if these are other weights, or a layer is missing.
    """
    embedding, first = "tok_embeddings.word_embeddings.weight", "transformer.layers.0.attention.wqkv.weight"
    if embedding not in state_dict or first not in state_dict:
        raise ValueError("these are not the weights of Step-LLM: take the folder step_llm of Step-Video-T2V")
    layers = {int(key.split(".")[2]) for key in state_dict if key.startswith("transformer.layers.")}
    if missing := sorted(set(range(max(layers))) - layers):
        raise ValueError(f"Step-LLM is incomplete: layer {missing[0]} is missing; download its folder again")
    vocabulary, dim = state_dict[embedding].shape
    return {
        "dim": dim,
        "heads": dim // HEAD_WIDTH,
        "groups": (state_dict[first].shape[0] - dim) // (2 * HEAD_WIDTH),
        "layers": len(layers),
        "ffn": state_dict["transformer.layers.0.feed_forward.w2.weight"].shape[1],
        "vocabulary": vocabulary,
    }


def slopes(heads: int) -> torch.Tensor:
    """(heads,) float32 of ALiBi (Press et al., arXiv 2108.12409), also for heads that are no power of two."""
    power = 2 ** math.floor(math.log2(heads))
    whole = [2 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2 ** (-4 * k / power) for k in range(1, 2 * (heads - power), 2)]
    return torch.tensor(whole + between)


def distance_bias(heads: int, length: int, device: torch.device | None = None) -> torch.Tensor:
    """(heads, length, length) float32: -slope sqrt(i - j) for token i looking at token j <= i, -inf beyond."""
    at = torch.arange(length, device=device)
    distance = (at[:, None] - at).float()
    bias = -slopes(heads).to(device)[:, None, None] * distance.clamp(min=0).sqrt()
    return bias.masked_fill(distance < 0, -torch.inf)

"""The transformer of Step-Video-T2V: 48 equal blocks of self-attention, attention to the text, and an MLP.

Convention: latents are (B, T, C, H, W); time runs from 0 (noise) to 1 (data); the prediction is the velocity, data
    minus noise. Tokens go frame by frame, row by row. Parameters have the published names and shapes.
    Layers come from `operations` (torch.nn, or an equal set of ComfyUI's that casts and offloads), attention from
    `attention`, so that one module serves both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention, attention
from .rotary import Positions, rotary_table, rotate

TIME_WIDTH = 256  # channels of the time's sines
BLOCK_EPS, EPS = 1e-5, 1e-6  # the blocks' LayerNorms have the larger one, whatever the published configuration says


class SelfAttention(nn.Module):
    """Over all video tokens, without a mask. Rows of `wqkv` go head by head: q, k and v of head 0, then of head 1."""

    def __init__(self, dim: int, head_width: int, operations: Any, attend: Attention, **factory):
        super().__init__()
        self.head_width, self.attend = head_width, attend
        self.wqkv = operations.Linear(dim, 3 * dim, bias=False, **factory)
        self.wo = operations.Linear(dim, dim, bias=False, **factory)
        self.q_norm = operations.RMSNorm(head_width, eps=EPS, **factory)
        self.k_norm = operations.RMSNorm(head_width, eps=EPS, **factory)

    def forward(self, x: torch.Tensor, table: torch.Tensor, options: dict) -> torch.Tensor:
        q, k, v = self.wqkv(x).unflatten(-1, (-1, 3 * self.head_width)).chunk(3, dim=-1)
        q, k = rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)
        flat = (part.flatten(2) for part in (q, k, v))
        return self.wo(self.attend(*flat, heads=q.shape[2], transformer_options=options))


class TextAttention(nn.Module):
    """Video tokens look at the text's. Rows of `wkv` go head by head: k and v of head 0, then of head 1."""

    def __init__(self, dim: int, head_width: int, operations: Any, attend: Attention, **factory):
        super().__init__()
        self.head_width, self.attend = head_width, attend
        self.wq = operations.Linear(dim, dim, bias=False, **factory)
        self.wkv = operations.Linear(dim, 2 * dim, bias=False, **factory)
        self.wo = operations.Linear(dim, dim, bias=False, **factory)
        self.q_norm = operations.RMSNorm(head_width, eps=EPS, **factory)
        self.k_norm = operations.RMSNorm(head_width, eps=EPS, **factory)

    def forward(self, x: torch.Tensor, text: torch.Tensor, mask: torch.Tensor | None, options: dict) -> torch.Tensor:
        q = self.q_norm(self.wq(x).unflatten(-1, (-1, self.head_width)))
        k, v = self.wkv(text).unflatten(-1, (-1, 2 * self.head_width)).chunk(2, dim=-1)
        flat = (part.flatten(2) for part in (q, self.k_norm(k), v))
        return self.wo(self.attend(*flat, heads=q.shape[2], mask=mask, transformer_options=options))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, operations: Any, **factory):
        super().__init__()
        inner = nn.Module()
        inner.proj = operations.Linear(dim, hidden, bias=False, **factory)
        self.net = nn.ModuleList([inner, nn.Identity(), operations.Linear(hidden, dim, bias=False, **factory)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


class Block(nn.Module):
    """Attention to the text reads the tokens as they are: no norm, no modulation, no gate."""

    def __init__(self, dim: int, head_width: int, hidden: int, operations: Any, attend: Attention, **factory):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, dim, **factory))
        self.norm1 = operations.LayerNorm(dim, eps=BLOCK_EPS, **factory)
        self.attn1 = SelfAttention(dim, head_width, operations, attend, **factory)
        self.attn2 = TextAttention(dim, head_width, operations, attend, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=BLOCK_EPS, **factory)
        self.ff = FeedForward(dim, hidden, operations, **factory)

    def forward(
        self,
        x: torch.Tensor,
        text: torch.Tensor,
        modulation: torch.Tensor,
        mask: torch.Tensor | None,
        table: torch.Tensor,
        options: dict,
    ) -> torch.Tensor:
        """x: (B, tokens, dim); text: (B, S, dim); modulation: (B, 6 * dim); mask: (B, 1, 1, S) added to scores."""
        moved = modulation.unflatten(-1, (6, -1))
        shift1, scale1, gate1, shift2, scale2, gate2 = (moved + self.scale_shift_table.to(moved)).chunk(6, dim=1)
        x = x + gate1 * self.attn1(self.norm1(x) * (1 + scale1) + shift1, table, options)
        x = x + self.attn2(x, text, mask, options)
        return x + gate2 * self.ff(self.norm2(x) * (1 + scale2) + shift2)


class TimestepEmbedder(nn.Module):
    def __init__(self, dim: int, operations: Any, **factory):
        super().__init__()
        self.linear_1 = operations.Linear(TIME_WIDTH, dim, **factory)
        self.linear_2 = operations.Linear(dim, dim, **factory)

    def forward(self, sines: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.silu(self.linear_1(sines)))


class AdaLayerNormSingle(nn.Module):
    """The modulation of all blocks, made once from the time."""

    def __init__(self, dim: int, operations: Any, **factory):
        super().__init__()
        self.emb = nn.Module()
        self.emb.timestep_embedder = TimestepEmbedder(dim, operations, **factory)
        self.linear = operations.Linear(dim, 6 * dim, **factory)

    def forward(self, time: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """time (B,) in [0, 1] -> modulation (B, 6 * dim) of the blocks, embedding (B, dim) of the last layer."""
        embedding = self.emb.timestep_embedder(time_sines(time).to(dtype))
        return self.linear(F.silu(embedding)), embedding


class CaptionProjection(nn.Module):
    def __init__(self, width: int, dim: int, operations: Any, **factory):
        super().__init__()
        self.linear_1 = operations.Linear(width, dim, **factory)
        self.linear_2 = operations.Linear(dim, dim, **factory)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        normed = F.layer_norm(states, states.shape[-1:], eps=EPS)
        return self.linear_2(F.gelu(self.linear_1(normed), approximate="tanh"))


class StepVideoTransformer(nn.Module):
    """The defaults are the published model: 29.3 billion parameters.

    layout: that this module is called as det_core calls it; a subclass for ComfyUI is "native".
    """

    layout: Literal["diffusers", "native"] = "diffusers"

    def __init__(
        self,
        *,
        num_heads: int = 48,
        head_width: int = 128,
        num_layers: int = 48,
        in_channels: int = 64,
        caption_channels: tuple[int, int] = (6144, 1024),
        mlp_width: int | None = None,
        operations: Any = nn,
        attention: Attention = attention,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        """caption_channels: of Step-LLM and of the Hunyuan CLIP; mlp_width: None means four times the tokens' width."""
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        dim = num_heads * head_width
        self.num_heads, self.head_width = num_heads, head_width
        self.config = SimpleNamespace(in_channels=in_channels)  # as transformers of diffusers are asked
        self.pos_embed = nn.Module()
        self.pos_embed.proj = operations.Conv2d(in_channels, dim, 1, **factory)
        self.adaln_single = AdaLayerNormSingle(dim, operations, **factory)
        self.caption_projection = CaptionProjection(caption_channels[0], dim, operations, **factory)
        self.clip_projection = operations.Linear(caption_channels[1], dim, **factory)
        self.transformer_blocks = nn.ModuleList(
            Block(dim, head_width, mlp_width or 4 * dim, operations, attention, **factory) for _ in range(num_layers)
        )
        self.scale_shift_table = nn.Parameter(torch.zeros(2, dim, **factory))
        self.proj_out = operations.Linear(dim, in_channels, **factory)

    def forward(
        self,
        latents: torch.Tensor,
        time: torch.Tensor,
        llm_states: torch.Tensor,
        clip_states: torch.Tensor,
        text_mask: torch.Tensor | None = None,
        *,
        positions: Positions | None = None,
        transformer_options: dict | None = None,
    ) -> torch.Tensor:
        """The velocity data - noise, of the shape of `latents`.

        Args:
            latents:     (B, T, C, H, W) at `time` (B,), 0 for noise, 1 for data.
            llm_states:  (B, L, 6144) of Step-LLM; clip_states: (B, S, 1024) of the Hunyuan CLIP, padding included.
            text_mask:   (B, S + L) integers or bools, how many of CLIP and then LLM tokens count: the first ones of
                         each sample, as many as it has ones. None: all.
            positions:   of latent frames, rows and columns, where they are not 0, 1, 2, ...
            transformer_options: handed on to `attention`.
        """
        batch, frames, _, height, width = latents.shape
        options = {} if transformer_options is None else transformer_options
        if positions is None:
            positions = (range(frames), range(height), range(width))
        table = rotary_table(positions, self.head_width, latents.device)
        x = self.pos_embed.proj(latents.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (batch, frames))
        x = x.flatten(1, 2)
        modulation, embedding = self.adaln_single(time, x.dtype)
        text = torch.cat([self.clip_projection(clip_states), self.caption_projection(llm_states)], dim=1)
        text, mask = _masked(text, text_mask)
        for block in self.transformer_blocks:
            x = block(x, text, modulation, mask, table, options)
        shift, scale = (self.scale_shift_table.to(embedding) + embedding[:, None]).chunk(2, dim=1)
        x = self.proj_out(F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift)
        return x.unflatten(1, (frames, height, width)).permute(0, 1, 4, 2, 3)


def published_sizes(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The sizes for `StepVideoTransformer` that these weights have, read from their shapes.

    Raises: ValueError if a block is missing, or the weights are of Step-Video-TI2V, which reads an image as well.
    """
    try:
        embed, out = state_dict["pos_embed.proj.weight"], state_dict["proj_out.weight"]
    except KeyError as error:
        raise ValueError(f"the weights are incomplete: {error.args[0]} is missing; download the model again") from None
    if embed.shape[1] != out.shape[0]:
        raise ValueError(
            "these weights are of Step-Video-TI2V, which makes a video of an image: take Step-Video-T2V "
            "(stepfun-ai/stepvideo-t2v)"
        )
    head_width = state_dict["transformer_blocks.0.attn1.q_norm.weight"].shape[0]
    blocks = {int(key.split(".")[1]) for key in state_dict if key.startswith("transformer_blocks.")}
    if missing := sorted(set(range(max(blocks))) - blocks):
        raise ValueError(f"the weights are incomplete: block {missing[0]} is missing; download the model again")
    return {
        "num_heads": embed.shape[0] // head_width,
        "head_width": head_width,
        "num_layers": len(blocks),
        "in_channels": embed.shape[1],
        "caption_channels": tuple(
            state_dict[f"{name}.weight"].shape[1] for name in ("caption_projection.linear_1", "clip_projection")
        ),
        "mlp_width": state_dict["transformer_blocks.0.ff.net.0.proj.weight"].shape[0],
    }


def time_sines(time: torch.Tensor) -> torch.Tensor:
    """(B,) times in [0, 1] -> (B, 256) float32: cosines, then sines, of 1000 times the time."""
    half = TIME_WIDTH // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=time.device) / half)
    angles = (1000 * time).float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _masked(text: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The text cut to the longest sample, and the additive mask (B, 1, 1, S) that its shorter samples need, or None.

    A boolean mask would be taken for numbers by some of ComfyUI's attention functions.
    """
    if mask is None:
        return text, None
    counts = mask.long().sum(dim=1)
    text = text[:, : int(counts.max())]
    beyond = torch.arange(text.shape[1], device=text.device) >= counts.to(text.device)[:, None]
    if not beyond.any():
        return text, None
    return text, text.new_zeros(beyond.shape).masked_fill(beyond, -torch.inf)[:, None, None]

"""CogVideoX (2B, 5B, 1.5) and the embedded DiT, which is a CogVideoX in small.

Joint attention over text and video tokens. Inside a diffusers attention module the two are separate tensors; the native
layout has no attention module, and text comes first at its projections.
The training and sampling values of CogVideoX are the paper's, those of the embedded DiT ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .keys import rename
from .spec import Defaults, DiTSpec, Family, Tap, has_modules, latents_argument

RULES = (
    ("transformer_blocks.{}.attn1.to_q", "blocks.{}.q"),
    ("transformer_blocks.{}.attn1.to_k", "blocks.{}.k"),
    ("transformer_blocks.{}.attn1.to_v", "blocks.{}.v"),
    ("transformer_blocks.{}.attn1.norm_q", "blocks.{}.norm_q"),
    ("transformer_blocks.{}.attn1.norm_k", "blocks.{}.norm_k"),
    ("transformer_blocks.{}.attn1.to_out.0", "blocks.{}.attn_out"),
    ("transformer_blocks.{}.ff.net.0.proj", "blocks.{}.ff_proj"),
    ("transformer_blocks.{}.ff.net.2", "blocks.{}.ff_out"),
    ("transformer_blocks.{}", "blocks.{}"),
    ("time_embedding.linear_{}", "time_embedding_linear_{}"),
    ("ofs_embedding.linear_{}", "ofs_embedding_linear_{}"),
)


def bind(model: nn.Module, layout: str) -> DiTSpec:
    if layout == "diffusers":
        config = model.config
        dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
        patch, patch_t, channels = config.patch_size, config.patch_size_t, config.in_channels
        taps = tuple(Tap(f"transformer_blocks.{i}.attn1", f"transformer_blocks.{i}.attn1") for i in range(count))
    else:
        dim, count = model.blocks[0].dim, len(model.blocks)
        patch, patch_t, channels = model.patch_size, model.patch_size_t, model.in_channels
        taps = tuple(Tap(f"blocks.{i}.q", f"blocks.{i}.attn_out", tokens="last") for i in range(count))
    embedded = patch == 1 and channels == 16  # no CogVideoX has tokens of a single cell
    return DiTSpec(
        name="embedded" if embedded else "cogvideox",
        layout=layout,
        dim=dim,
        taps=taps,
        patch=(patch_t or 1, patch, patch),
        temporal_compression=1 if embedded else 4,
        spatial_compression=8,
        prediction="v",
        track_limit=400,
        defaults=embedded_defaults(dim) if embedded else Defaults(),
    )


def embedded_defaults(dim: int) -> Defaults:
    """Chosen by measurement on the embedded DiT; `init_std` is the scale of PyTorch's own convolutions."""
    kernel_size = 3
    return Defaults(
        mid_dim=32,
        kernel_size=kernel_size,
        init_std=(dim * kernel_size) ** -0.5,
        lr=1e-2,
        steps=200,
        decay=True,
        batch=4,
        sample_steps=20,
        cfg=3.0,
        frames=9,
        height=64,
        width=64,
    )


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    _, time, _, height, width = latents_argument(args, kwargs).shape  # this family puts frames before channels
    return spec.grid((time, height, width))


def to_native(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, RULES)


def to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, [(native, diffusers) for diffusers, native in RULES])


COGVIDEOX = Family(
    diffusers_class="CogVideoXTransformer3DModel",
    is_native=lambda model: has_modules(
        model, "patch_embed", "blocks.0.norm1.linear", "blocks.0.q", "blocks.0.attn_out"
    ),
    bind=bind,
    call_grid=call_grid,
    to_native=to_native,
    to_diffusers=to_diffusers,
)

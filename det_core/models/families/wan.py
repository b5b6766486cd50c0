"""Wan 2.1 and 2.2: self-attention over video tokens only; text comes in by cross-attention.

The paper has no Wan experiment: the training values are those it uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .keys import rename
from .spec import Defaults, DiTSpec, Family, Tap, has_modules, latents_argument

CAUTION = (
    "The author of DeT reports that temporal kernels do not work on Wan. They train and apply here, but expect "
    "little of the motion to transfer."
)


def _attention(diffusers: str, native: str) -> tuple[tuple[str, str], ...]:
    names = {
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "o",
        "add_k_proj": "k_img",
        "add_v_proj": "v_img",
        "norm_added_k": "norm_k_img",
    }
    rules = [(f"blocks.{{}}.{diffusers}.{old}", f"blocks.{{}}.{native}.{new}") for old, new in names.items()]
    return (*rules, (f"blocks.{{}}.{diffusers}", f"blocks.{{}}.{native}"))


RULES = (
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    *_attention("attn1", "self_attn"),
    *_attention("attn2", "cross_attn"),
    ("blocks.{}.norm2", "blocks.{}.norm3"),
    ("blocks.{}.ffn.net.0.proj", "blocks.{}.ffn.0"),
    ("blocks.{}.ffn.net.2", "blocks.{}.ffn.2"),
    ("blocks.{}.scale_shift_table", "blocks.{}.modulation"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out", "head.head"),
)


def bind(model: nn.Module, layout: str) -> DiTSpec:
    if layout == "diffusers":
        config = model.config
        dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
        patch, latent_channels, attention = config.patch_size, config.out_channels, "attn1"
    else:
        dim, count = model.dim, len(model.blocks)
        patch, latent_channels, attention = model.patch_size, model.out_dim, "self_attn"
    fine_vae = latent_channels != 48  # the 5B model of Wan 2.2 has its own VAE, of 16x16 pixels a cell
    return DiTSpec(
        name="wan",
        layout=layout,
        dim=dim,
        taps=tuple(Tap(f"blocks.{i}.{attention}", f"blocks.{i}.{attention}") for i in range(count)),
        patch=tuple(patch),
        temporal_compression=4,
        spatial_compression=8 if fine_vae else 16,
        prediction="flow",
        track_limit=550,
        defaults=Defaults(cfg=5.0, shift=5.0, width=832 if fine_vae else 704),
        caution=CAUTION,
    )


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    return spec.grid(latents_argument(args, kwargs).shape)


def to_native(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, RULES)


def to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, [(native, diffusers) for diffusers, native in RULES])


WAN = Family(
    diffusers_class="WanTransformer3DModel",
    is_native=lambda model: has_modules(model, "blocks.0.self_attn.o", "head.modulation", "patch_embedding"),
    bind=bind,
    call_grid=call_grid,
    to_native=to_native,
    to_diffusers=to_diffusers,
)

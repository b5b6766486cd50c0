"""LTX-Video: self-attention over video tokens only; diffusers packs the latents to tokens before they enter the model.

The paper has no LTX experiment: the training values are those it uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .keys import rename
from .spec import Defaults, DiTSpec, Family, Tap, has_modules

RULES = (
    ("proj_in", "patchify_proj"),
    ("time_embed", "adaln_single"),
    ("transformer_blocks.{}.attn1.norm_q", "transformer_blocks.{}.attn1.q_norm"),
    ("transformer_blocks.{}.attn1.norm_k", "transformer_blocks.{}.attn1.k_norm"),
    ("transformer_blocks.{}.attn2.norm_q", "transformer_blocks.{}.attn2.q_norm"),
    ("transformer_blocks.{}.attn2.norm_k", "transformer_blocks.{}.attn2.k_norm"),
)


def bind(model: nn.Module, layout: str) -> DiTSpec:
    if layout == "diffusers":
        config = model.config
        dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
    elif has_modules(model, "audio_patchify_proj"):
        raise ValueError(f"{type(model).__name__} makes sound as well: a motion adapter needs a video-only LTX model")
    else:
        dim, count = model.inner_dim, len(model.transformer_blocks)
    return DiTSpec(
        name="ltx",
        layout=layout,
        dim=dim,
        taps=tuple(Tap(f"transformer_blocks.{i}.attn1", f"transformer_blocks.{i}.attn1") for i in range(count)),
        patch=(1, 1, 1),
        temporal_compression=8,
        spatial_compression=32,
        prediction="flow",
        track_limit=550,
        defaults=Defaults(cfg=3.0, shift=2.37, width=704),
    )


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    names = ("num_frames", "height", "width")  # arguments 4 to 6 of the transformer, in latent cells
    sizes = [args[4 + i] if len(args) > 4 + i else kwargs.get(name) for i, name in enumerate(names)]
    if None in sizes:
        raise ValueError(f"LTX with a motion adapter needs {', '.join(names)} (latent cells) at every call")
    return spec.grid(tuple(sizes))


def to_native(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, RULES)


def to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(state_dict, [(native, diffusers) for diffusers, native in RULES])


LTX = Family(
    diffusers_class="LTXVideoTransformer3DModel",
    is_native=lambda model: has_modules(model, "patchify_proj", "adaln_single", "transformer_blocks.0.attn1"),
    bind=bind,
    call_grid=call_grid,
    to_native=to_native,
    to_diffusers=to_diffusers,
)

"""HunyuanVideo: double-stream blocks, then single-stream blocks whose attention and MLP share one output projection.

A single-stream block's kernel is added to the attention half of that projection's input. In diffusers this is the
block's attention module, which ends before the projection; natively it is `linear2`, fed with text first, video last.
HunyuanVideo 1.5, double-stream blocks only, is supported in its native layout.

The training and sampling values are the paper's (supplement): kernel 5, 100 warm-up steps, 49x512x768, 30 steps, all
single-stream blocks dropped. The flow shift of 7 is the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .keys import Fused, fuse, rename, split
from .spec import Defaults, DiTSpec, Family, Tap, has_modules, latents_argument

# Tensors that are one in the native layout and several in diffusers, all split along the first axis.
FUSED = (
    Fused(
        "context_embedder.token_refiner.refiner_blocks.{}.attn",
        ("to_q", "to_k", "to_v"),
        "txt_in.individual_token_refiner.blocks.{}.self_attn.qkv",
    ),
    Fused("transformer_blocks.{}.attn", ("to_q", "to_k", "to_v"), "double_blocks.{}.img_attn.qkv"),
    Fused("transformer_blocks.{}.attn", ("add_q_proj", "add_k_proj", "add_v_proj"), "double_blocks.{}.txt_attn.qkv"),
    Fused(
        "single_transformer_blocks.{}", ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), "single_blocks.{}.linear1"
    ),
)

_REFINER = "context_embedder.token_refiner.refiner_blocks.{}"
_NATIVE_REFINER = "txt_in.individual_token_refiner.blocks.{}"
_DOUBLE, _NATIVE_DOUBLE = "transformer_blocks.{}", "double_blocks.{}"
_SINGLE, _NATIVE_SINGLE = "single_transformer_blocks.{}", "single_blocks.{}"


def _embedder(diffusers: str, native: str) -> tuple[tuple[str, str], ...]:
    return ((f"{diffusers}.linear_1", f"{native}.in_layer"), (f"{diffusers}.linear_2", f"{native}.out_layer"))


RULES = (
    ("x_embedder.proj", "img_in.proj"),
    ("context_embedder.proj_in", "txt_in.input_embedder"),
    *_embedder("context_embedder.time_text_embed.timestep_embedder", "txt_in.t_embedder"),
    *_embedder("context_embedder.time_text_embed.text_embedder", "txt_in.c_embedder"),
    *_embedder("time_text_embed.timestep_embedder", "time_in"),
    *_embedder("time_text_embed.text_embedder", "vector_in"),
    *_embedder("time_text_embed.guidance_embedder", "guidance_in"),
    (f"{_REFINER}.attn.to_out.0", f"{_NATIVE_REFINER}.self_attn.proj"),
    (f"{_REFINER}.ff.net.0.proj", f"{_NATIVE_REFINER}.mlp.0"),
    (f"{_REFINER}.ff.net.2", f"{_NATIVE_REFINER}.mlp.2"),
    (f"{_REFINER}.norm_out.linear", f"{_NATIVE_REFINER}.adaLN_modulation.1"),
    (_REFINER, _NATIVE_REFINER),
    (f"{_DOUBLE}.norm1.linear", f"{_NATIVE_DOUBLE}.img_mod.lin"),
    (f"{_DOUBLE}.norm1_context.linear", f"{_NATIVE_DOUBLE}.txt_mod.lin"),
    (f"{_DOUBLE}.attn.norm_q", f"{_NATIVE_DOUBLE}.img_attn.norm.query_norm"),
    (f"{_DOUBLE}.attn.norm_k", f"{_NATIVE_DOUBLE}.img_attn.norm.key_norm"),
    (f"{_DOUBLE}.attn.norm_added_q", f"{_NATIVE_DOUBLE}.txt_attn.norm.query_norm"),
    (f"{_DOUBLE}.attn.norm_added_k", f"{_NATIVE_DOUBLE}.txt_attn.norm.key_norm"),
    (f"{_DOUBLE}.attn.to_out.0", f"{_NATIVE_DOUBLE}.img_attn.proj"),
    (f"{_DOUBLE}.attn.to_add_out", f"{_NATIVE_DOUBLE}.txt_attn.proj"),
    (f"{_DOUBLE}.ff.net.0.proj", f"{_NATIVE_DOUBLE}.img_mlp.0"),
    (f"{_DOUBLE}.ff.net.2", f"{_NATIVE_DOUBLE}.img_mlp.2"),
    (f"{_DOUBLE}.ff_context.net.0.proj", f"{_NATIVE_DOUBLE}.txt_mlp.0"),
    (f"{_DOUBLE}.ff_context.net.2", f"{_NATIVE_DOUBLE}.txt_mlp.2"),
    (f"{_SINGLE}.attn.norm_q", f"{_NATIVE_SINGLE}.norm.query_norm"),
    (f"{_SINGLE}.attn.norm_k", f"{_NATIVE_SINGLE}.norm.key_norm"),
    (f"{_SINGLE}.norm.linear", f"{_NATIVE_SINGLE}.modulation.lin"),
    (f"{_SINGLE}.proj_out", f"{_NATIVE_SINGLE}.linear2"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("proj_out", "final_layer.linear"),
)


def bind(model: nn.Module, layout: str) -> DiTSpec:
    if layout == "diffusers":
        config = model.config
        dim = config.num_attention_heads * config.attention_head_dim
        doubles, singles = config.num_layers, config.num_single_layers
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        paths = [f"transformer_blocks.{i}.attn" for i in range(doubles)]
        paths += [f"single_transformer_blocks.{i}.attn" for i in range(singles)]
        taps = tuple(Tap(path, path) for path in paths)
    else:
        dim, doubles, singles = model.hidden_size, len(model.double_blocks), len(model.single_blocks)
        patch = tuple(model.patch_size)
        if len(patch) != 3:
            raise ValueError(f"{type(model).__name__} makes images, not videos: a motion adapter needs a video model")
        taps = tuple(
            Tap(f"double_blocks.{i}.img_attn.qkv", f"double_blocks.{i}.img_attn.proj", tokens="last")
            for i in range(doubles)
        ) + tuple(
            Tap(f"single_blocks.{i}.linear1", f"single_blocks.{i}.linear2", where="input", tokens="last", channels=dim)
            for i in range(singles)
        )
    return DiTSpec(
        name="hunyuan_video",
        layout=layout,
        dim=dim,
        taps=taps,
        patch=patch,
        temporal_compression=4,
        spatial_compression=8 if singles else 16,  # version 1.5 has no single-stream blocks and a coarser VAE
        prediction="flow",
        track_limit=550,
        defaults=Defaults(
            kernel_size=5,
            warmup=100,
            drop_fraction=singles / (doubles + singles) if singles else 0.65,
            sample_steps=30,
            shift=7.0,
            height=512,
            width=768,
        ),
    )


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    return spec.grid(latents_argument(args, kwargs).shape)


def to_native(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return _swap_final_halves(rename(fuse(state_dict, FUSED), RULES))


def to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = split(_swap_final_halves(state_dict), FUSED)
    return rename(tensors, [(native, diffusers) for diffusers, native in RULES])


def _swap_final_halves(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The last modulation is (shift, scale) natively and (scale, shift) in diffusers."""
    return {
        key: torch.cat(tensor.chunk(2)[::-1]) if key.startswith("final_layer.adaLN_modulation.1.") else tensor
        for key, tensor in state_dict.items()
    }


HUNYUAN_VIDEO = Family(
    diffusers_class="HunyuanVideoTransformer3DModel",
    is_native=lambda model: has_modules(model, "double_blocks", "single_blocks", "txt_in.individual_token_refiner"),
    bind=bind,
    call_grid=call_grid,
    to_native=to_native,
    to_diffusers=to_diffusers,
)

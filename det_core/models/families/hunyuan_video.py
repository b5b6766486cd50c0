"""HunyuanVideo: double-stream blocks, then single-stream blocks whose attention and MLP share one output projection.

A single-stream block's kernel is added to the attention half of that projection's input. In diffusers this is the
block's attention module, which ends before the projection; natively it is `linear2`, fed with text first, video last.
HunyuanVideo 1.5 has a file of its own.

The training and sampling values are the paper's (supplement): kernel 5, 100 warm-up steps, 512x768, 30 sampling steps,
all single-stream blocks dropped. The flow shift of 7 and the rate are the model's own, the block that guidance reads is
ours. Training steps, learning rate, kernel width and the 49 frames: `Defaults` (`spec.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward, replaced
from .blocks import DROP_FRACTION
from .family import Costs, Family
from .keys import Fused, fuse, split
from .placing import Placing, RotaryTable, placed_rotary, starts
from .projections import DIFFUSERS, Stack
from .spec import Defaults, DiTSpec, Layout, Tap, has_modules

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


def embedder(diffusers: str, native: str) -> tuple[tuple[str, str], ...]:
    return ((f"{diffusers}.linear_1", f"{native}.in_layer"), (f"{diffusers}.linear_2", f"{native}.out_layer"))


RULES = (
    ("x_embedder.proj", "img_in.proj"),
    ("context_embedder.proj_in", "txt_in.input_embedder"),
    *embedder("context_embedder.time_text_embed.timestep_embedder", "txt_in.t_embedder"),
    *embedder("context_embedder.time_text_embed.text_embedder", "txt_in.c_embedder"),
    *embedder("time_text_embed.timestep_embedder", "time_in"),
    *embedder("time_text_embed.text_embedder", "vector_in"),
    *embedder("time_text_embed.guidance_embedder", "guidance_in"),
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


class HunyuanVideo(Family):
    name = "hunyuan_video"
    title = "HunyuanVideo"
    diffusers_class = "HunyuanVideoTransformer3DModel"
    pipeline = "HunyuanVideoPipeline"
    native_modules = ("double_blocks", "single_blocks", "txt_in.individual_token_refiner")
    diffusers_marks = ("context_embedder.proj_in.weight", "transformer_blocks.0.attn.add_q_proj.weight")
    native_marks = (
        "txt_in.individual_token_refiner.blocks.0.norm1.weight",
        "double_blocks.0.img_attn.qkv.weight",
    )
    rules = RULES
    stacks = (
        (
            Stack.plain("transformer_blocks", "attn"),
            Stack.fused("double_blocks", "img_attn.qkv", 3, "img_attn.proj"),
        ),
        (
            Stack.plain("single_transformer_blocks", "attn", DIFFUSERS[:3]),
            Stack.fused("single_blocks", "linear1", 7),  # q, k, v and an MLP four times as wide as the model
        ),
    )
    costs = Costs(9.2, 6.1, 2.0, 13.1, 0, 4.1)
    half_costs = Costs(13.3, 9.9, 2.0, 17.6, 0, 4.1)
    text_tokens = 256
    in_place = True
    cell = 8  # pixels to a latent cell, on each side

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        if layout == "diffusers":
            config = model.config
            dim = config.num_attention_heads * config.attention_head_dim
            doubles, singles = config.num_layers, getattr(config, "num_single_layers", 0)
            patch = (config.patch_size_t, config.patch_size, config.patch_size)
            paths = [f"transformer_blocks.{i}.attn" for i in range(doubles)]
            paths += [f"single_transformer_blocks.{i}.attn" for i in range(singles)]
            taps = tuple(Tap(path, path) for path in paths)
        else:
            dim, doubles, singles = model.hidden_size, len(model.double_blocks), len(model.single_blocks)
            patch = tuple(model.patch_size)
            if len(patch) != 3:
                raise ValueError(
                    f"{type(model).__name__} makes images, not videos: a motion adapter needs a video model"
                )
            taps = tuple(
                Tap(f"double_blocks.{i}.img_attn.qkv", f"double_blocks.{i}.img_attn.proj", tokens="last")
                for i in range(doubles)
            ) + tuple(
                Tap(
                    f"single_blocks.{i}.linear1",
                    f"single_blocks.{i}.linear2",
                    where="input",
                    tokens="last",
                    channels=dim,
                )
                for i in range(singles)
            )
        return DiTSpec(
            family=self,
            layout=layout,
            dim=dim,
            taps=taps,
            patch=patch,
            frames=FrameMap((1,), (4,)),
            spatial_compression=self.cell,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(
                fps=24.0,
                kernel_size=5,
                warmup=100,
                drop_fraction=singles / (doubles + singles) if singles else DROP_FRACTION,
                sample_steps=30,
                shift=7.0,
                height=512,
                width=768,
                guide_block=doubles - 1 if singles else None,  # the last with text and video apart
            ),
            attention="first" if layout == "diffusers" else "last",
            embedded_guidance=has_modules(model, "guidance_in")
            or has_modules(model, "time_text_embed.guidance_embedder"),
        )

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        told = torch.full((len(x_t),), guidance * 1000.0, dtype=x_t.dtype, device=x_t.device)
        extra = {"guidance": told} if transformer.config.guidance_embeds else {}
        return transformer(x_t, timestep=t, return_dict=False, **extra, **cond)[0]

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        rope = transformer.rope
        axes = placing.axes(starts(rope.rope_dim), rope.rope_dim, RotaryTable(rope.theta, torch.float32))
        return [(rope, partial(placed_rotary, rope.forward, placing, axes))]

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        with replaced(dit, "img_ids", partial(_placed_ids, dit.img_ids, spec, placing)):
            yield {}

    def times(self, scheduler: Any, steps: int, grid: tuple[int, int, int]) -> dict[str, Any]:
        return {"sigmas": [1 - i / steps for i in range(steps)]}

    def encode_prompts(self, pipe: Any, prompts: list[str], device: torch.device) -> dict[str, torch.Tensor]:
        text, pooled, mask = pipe.encode_prompt(prompt=prompts, device=device)
        return {"encoder_hidden_states": text, "pooled_projections": pooled, "encoder_attention_mask": mask}

    def to_native(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return swap_final_halves(super().to_native(fuse(state_dict, FUSED)))

    def to_diffusers(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return super().to_diffusers(split(swap_final_halves(state_dict), FUSED))


def _placed_ids(own: Forward, spec: DiTSpec, placing: Placing, x: torch.Tensor) -> torch.Tensor:
    """A native model's (time, row, column) of each video token (B, tokens, 3), with some of the axes placed."""
    placing.meet(spec.grid(x.shape))
    ids = own(x).unflatten(1, placing.grid)
    for axis, at in placing.tokens.items():
        shape = [1, 1, 1]
        shape[axis] = len(at)
        ids[..., axis] = at.reshape(shape).to(ids)
    return ids.flatten(1, 3)


def swap_final_halves(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The last modulation is (shift, scale) natively and (scale, shift) in diffusers."""
    return {
        key: torch.cat(tensor.chunk(2)[::-1]) if key.startswith("final_layer.adaLN_modulation.1.") else tensor
        for key, tensor in state_dict.items()
    }


HUNYUAN_VIDEO = HunyuanVideo()

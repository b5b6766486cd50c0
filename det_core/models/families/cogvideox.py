"""CogVideoX: 2B, 5B, 1.5.

Joint attention over text and video tokens. Inside a diffusers attention module the two are separate tensors; the native
layout has no attention module, and text comes first at its projections.
The training and sampling values are the paper's.
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
from .cogvideox_tables import PlacedRotary, placed_sincos, resize_crop_region, rotary_widths
from .family import Costs, Family
from .placing import Placing, RotaryTable, starts
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap

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


class CogVideoX(Family):
    name = "cogvideox"
    title = "CogVideoX"
    diffusers_class = "CogVideoXTransformer3DModel"
    pipeline = "CogVideoXPipeline"
    native_modules = ("patch_embed", "blocks.0.norm1.linear", "blocks.0.q", "blocks.0.attn_out")
    diffusers_marks = ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.linear.weight")
    native_marks = ("patch_embed.text_proj.weight", "blocks.0.norm1.linear.weight")
    rules = RULES
    stacks = ((Stack.plain("transformer_blocks", "attn1"), Stack.plain("blocks", "", (*"qkv", "attn_out"))),)
    costs = half_costs = Costs(9.8, 5.3, 2.0, 9.9, 0, -0.9)
    text_tokens = 226

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        if layout == "diffusers":
            config = model.config
            dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
            patch, patch_t = config.patch_size, config.patch_size_t
            taps = tuple(Tap(f"transformer_blocks.{i}.attn1", f"transformer_blocks.{i}.attn1") for i in range(count))
        else:
            dim, count = model.blocks[0].dim, len(model.blocks)
            patch, patch_t = model.patch_size, model.patch_size_t
            taps = tuple(Tap(f"blocks.{i}.q", f"blocks.{i}.attn_out", tokens="last") for i in range(count))
        return DiTSpec(
            family=self,
            layout=layout,
            dim=dim,
            taps=taps,
            patch=(patch_t or 1, patch, patch),
            frames=FrameMap((1,), (4,)),
            spatial_compression=8,
            prediction="v",
            track_limit=400,
            defaults=Defaults(fps=16.0 if patch_t else 8.0),
            attention="last",
        )

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        latents = args[0] if args else kwargs["hidden_states"]
        _, time, _, height, width = latents.shape  # this family puts frames before channels
        return spec.whole_grid((time, height, width))

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        # 1.5 joins two latent frames to a token. Odd counts are padded with a copy of the first, as its trainer does.
        extra = -x_t.shape[2] % (transformer.config.patch_size_t or 1)
        x_t = torch.cat([x_t[:, :, :1].expand(-1, -1, extra, -1, -1), x_t], dim=2) if extra else x_t
        rotary = cogvideox_rotary(transformer, x_t.shape[2:], x_t.device)
        out = transformer(x_t.transpose(1, 2), timestep=t, image_rotary_emb=rotary, return_dict=False, **cond)[0]
        return out.transpose(1, 2)[:, :, extra:]

    def schedule(self, spec: DiTSpec, own: Any, steps: int, shape: torch.Size, device: torch.device) -> Any:
        """DDIM, as the paper samples, on the folder's own noise schedule."""
        from diffusers import CogVideoXDDIMScheduler

        scheduler = CogVideoXDDIMScheduler.from_config(own.config)
        scheduler.set_timesteps(steps, device=device)
        return scheduler

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        config, embed = transformer.config, transformer.patch_embed
        if not config.use_rotary_positional_embeddings:
            return [(embed, PlacedEmbedding(embed, placing))]
        if embed.use_learned_positional_embeddings:
            raise ValueError("this CogVideoX has learned positions, which cannot be set: use a text-to-video model")
        widths = rotary_widths(config.attention_head_dim)
        axes = placing.axes(rotary_starts(widths, config), widths, RotaryTable(10000.0, torch.float32))
        return [(transformer, partial(_placed_call, transformer.forward, placing, axes))]

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        if dit.use_rotary_positional_embeddings and not dit.patch_embed.use_learned_positional_embeddings:
            widths = rotary_widths(dit.attention_head_dim)
            rotary = PlacedRotary(dit._get_rotary_emb, rotary_starts(widths, dit), widths, placing)
            with replaced(dit, "_get_rotary_emb", rotary):
                yield {}
        else:
            with placed_sincos(dit.patch_embed, placing):
                yield {}


def rotary_starts(widths: tuple[int, int, int], sizes: Any) -> list[int]:
    """First channels of the axes that can be placed: version 1.0 stretches rows and columns itself, 1.5 does not."""
    return starts(widths) if sizes.patch_size_t else starts(widths)[:1]


def _placed_call(forward: Forward, placing: Placing, axes: dict, *args, image_rotary_emb, **kwargs):
    placed = tuple(placing.put(table, axes, index) for index, table in enumerate(image_rotary_emb))
    return forward(*args, image_rotary_emb=placed, **kwargs)


class PlacedEmbedding:
    """A patch embedding's forward with a sine-cosine table of placed tokens instead of its own; rows come last."""

    def __init__(self, embed: nn.Module, placing: Placing):
        from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid

        self.embed, self.placing, self.forward = embed, placing, embed.forward
        time, space = embed.embed_dim // 4, 3 * embed.embed_dim // 8
        firsts, widths = (0, time + space, time), (time, space, space)
        scales = (embed.temporal_interpolation_scale, *(embed.spatial_interpolation_scale,) * 2)
        self.axes = {
            axis: (firsts[axis], [get_1d_sincos_pos_embed_from_grid(widths[axis], at.float() / scales[axis])])
            for axis, at in placing.tokens.items()
        }

    def __call__(self, text_embeds: torch.Tensor, image_embeds: torch.Tensor) -> torch.Tensor:
        embed, text = self.embed, self.embed.max_text_seq_length
        time, rows, columns = self.placing.grid
        sizes = (rows * embed.patch_size, columns * embed.patch_size, (time - 1) * embed.temporal_compression_ratio + 1)
        table = embed._get_positional_embeddings(*sizes, device=image_embeds.device)
        video = self.placing.put(table[:, text:], self.axes)
        embed.use_positional_embeddings = False
        try:
            joint = self.forward(text_embeds, image_embeds)
        finally:
            embed.use_positional_embeddings = True
        return joint + torch.cat([table[:, :text], video], dim=1).to(joint.dtype)


def cogvideox_rotary(
    transformer: nn.Module, latent_grid: tuple[int, int, int], device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """CogVideoX's rotary table (cos, sin) for latents (T, H, W), each (tokens, head width); None where it has none.

    1.0: positions are those of a resize-crop region of the 480x720 training grid; 1.5 (temporal patches): plain slices.
    """
    config = transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    frames, height, width = latent_grid
    patch = config.patch_size
    grid = (height // patch, width // patch)
    base_height, base_width = config.sample_height // patch, config.sample_width // patch
    device = next(transformer.parameters()).device if device is None else device
    if config.patch_size_t is None:
        region = resize_crop_region(grid, (base_height, base_width))
        return get_3d_rotary_pos_embed(config.attention_head_dim, region, grid, frames, device=device)
    frames = (frames + config.patch_size_t - 1) // config.patch_size_t
    return get_3d_rotary_pos_embed(
        config.attention_head_dim,
        None,
        grid,
        frames,
        grid_type="slice",
        max_size=(base_height, base_width),
        device=device,
    )


COGVIDEOX = CogVideoX()

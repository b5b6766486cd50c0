"""HunyuanVideo 1.5: double-stream blocks only; a picture goes in as 33 more channels and as tokens beside the text's.

The paper has no experiment with it: the training and sampling values are those of HunyuanVideo, but for the share
of dropped blocks (the usual one: there are no single-stream blocks).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from .family import Costs
from .hunyuan_video import RULES, HunyuanVideo, embedder
from .spec import DiTSpec, Layout

MASK = 0.72  # of a pair's number in the tokens' format, measured
_OWN = (
    *embedder("time_embed.timestep_embedder", "time_in"),
    *embedder("time_embed.timestep_embedder_r", "time_r_in"),
    ("context_embedder_2.norm", "byt5_in.layernorm"),
    ("context_embedder_2.linear_{}", "byt5_in.fc{}"),
    ("image_embedder.norm_in", "vision_in.proj.0"),
    ("image_embedder.linear_1", "vision_in.proj.1"),
    ("image_embedder.linear_2", "vision_in.proj.3"),
    ("image_embedder.norm_out", "vision_in.proj.4"),
    ("cond_type_embed", "cond_type_embedding"),
)


class HunyuanVideo15(HunyuanVideo):
    name = "hunyuan_video15"
    title = "HunyuanVideo 1.5"
    diffusers_class = "HunyuanVideo15Transformer3DModel"
    pipeline = ""  # whole folders are not opened: only the transformer, from Python
    diffusers_marks = ("context_embedder_2.linear_1.weight", "transformer_blocks.0.attn.add_q_proj.weight")
    native_marks = ("byt5_in.fc1.weight", "double_blocks.0.img_attn.qkv.weight")
    rules = (*_OWN, *RULES)
    stacks = HunyuanVideo.stacks[:1]
    costs = Costs(9.1, 5.6, 2.0, 10.6, 0, 0)  # on ComfyUI's own modules
    half_costs = Costs(11.1, 6.8, 2.0, 13.4, 0, 0)
    diffusers_costs = (Costs(10.4, 10.3, 2.0, 10.5, 0, 0), Costs(14.5, 14.2, 2.0, 14.7, 0, 0))
    cell = 16

    def layout_of(self, model: nn.Module) -> Layout | None:
        layout = super().layout_of(model)
        return None if layout == "native" and len(model.single_blocks) else layout

    def costs_of(self, spec: DiTSpec, bits: int) -> Costs:
        """In diffusers every block keeps its mask, a number for each pair of tokens."""
        costs, mask = super().costs_of(spec, bits), MASK / spec.dim
        return replace(costs, map_block=mask, map_inside=mask) if spec.layout == "diffusers" else costs

    def latent_channels(self, transformer: nn.Module) -> int:
        return transformer.config.out_channels

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        """cond: what the transformer is told of the text, and for image-to-video `image_embeds` and `image_latents`
        (B, 33, T, H, W): the picture as the first of T latent frames, and where it is given."""
        config, told = transformer.config, dict(cond)
        picture = told.pop("image_latents", None)
        if picture is None:
            picture = x_t.new_zeros(len(x_t), config.in_channels - x_t.shape[1], *x_t.shape[2:])
        elif picture.shape[2:] != x_t.shape[2:]:
            sizes = ["x".join(map(str, part.shape[2:])) for part in (picture, x_t)]
            raise ValueError(f"image_latents have {sizes[0]} cells, but the video has {sizes[1]}: train on whole clips")
        told.setdefault("image_embeds", x_t.new_zeros(len(x_t), 1, config.image_embed_dim))  # zeros: no picture
        told["timestep"] = t.to(x_t.dtype)  # as its pipeline gives it
        if config.use_meanflow:
            told["timestep_r"] = torch.zeros_like(told["timestep"])  # straight to the clean latents
        return transformer(torch.cat([x_t, picture.to(x_t)], 1), return_dict=False, **told)[0]


HUNYUAN_VIDEO_15 = HunyuanVideo15()

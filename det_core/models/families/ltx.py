"""LTX-Video: self-attention over video tokens only; diffusers packs the latents to tokens before they enter the model.

The paper has no LTX experiment: the training values are those it uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward, replaced
from .family import Costs, Family
from .placing import Placing
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap

RULES = (
    ("proj_in", "patchify_proj"),
    ("time_embed", "adaln_single"),
    ("transformer_blocks.{}.attn1.norm_q", "transformer_blocks.{}.attn1.q_norm"),
    ("transformer_blocks.{}.attn1.norm_k", "transformer_blocks.{}.attn1.k_norm"),
    ("transformer_blocks.{}.attn2.norm_q", "transformer_blocks.{}.attn2.q_norm"),
    ("transformer_blocks.{}.attn2.norm_k", "transformer_blocks.{}.attn2.k_norm"),
)


class LTX(Family):
    name = "ltx"
    title = "LTX-Video"
    diffusers_class = "LTXVideoTransformer3DModel"
    pipeline = "LTXPipeline"
    native_modules = ("patchify_proj", "adaln_single", "transformer_blocks.0.attn1")
    diffusers_marks = ("proj_in.weight", "time_embed.emb.timestep_embedder.linear_1.weight")
    native_marks = ("patchify_proj.weight", "adaln_single.emb.timestep_embedder.linear_1.weight")
    rules = RULES
    stacks = ((Stack.plain("transformer_blocks", "attn1"),) * 2,)
    costs = Costs(12.6, 4.2, 3.0, 14.6, 0, 0)
    half_costs = Costs(19.7, 6.2, 3.0, 23.7, 0, 0)
    in_place = True

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        if layout == "diffusers":
            config = model.config
            dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
        else:
            dim, count = model.inner_dim, len(model.transformer_blocks)
        return DiTSpec(
            family=self,
            layout=layout,
            dim=dim,
            taps=tuple(Tap(f"transformer_blocks.{i}.attn1", f"transformer_blocks.{i}.attn1") for i in range(count)),
            patch=(1, 1, 1),
            frames=FrameMap((1,), (8,)),
            spatial_compression=32,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(fps=25.0, cfg=3.0, shift=2.37, width=704),
        )

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        names = ("num_frames", "height", "width")  # arguments 4 to 6 of the transformer, in latent cells
        sizes = [args[4 + i] if len(args) > 4 + i else kwargs.get(name) for i, name in enumerate(names)]
        if None in sizes:
            raise ValueError(f"LTX with a motion adapter needs {', '.join(names)} (latent cells) at every call")
        return spec.grid(tuple(sizes))

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        _, _, frames, height, width = x_t.shape
        # LTX packs latents to tokens outside the model; its patches are single cells.
        out = transformer(
            x_t.flatten(2).transpose(1, 2),
            timestep=t,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(8 / 25, 32, 32),  # a cell is 8 frames of 1/25 s and 32x32 pixels
            return_dict=False,
            **cond,
        )[0]
        return out.transpose(1, 2).unflatten(2, (frames, height, width))

    def times(self, scheduler: Any, steps: int, grid: tuple[int, int, int]) -> dict[str, Any]:
        """Evenly spaced sigmas, then shifted by the number of tokens where the scheduler shifts dynamically."""
        config = scheduler.config
        fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * (math.prod(grid) - fewest) / (most - fewest)
        return {"sigmas": [1 - i / steps for i in range(steps)], "mu": mu}

    def encode_prompts(self, pipe: Any, prompts: list[str], device: torch.device) -> dict[str, torch.Tensor]:
        text, mask, _, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=device)
        return {"encoder_hidden_states": text, "encoder_attention_mask": mask}

    def latent_statistics(self, vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return vae.latents_mean, vae.latents_std / (vae.config.scaling_factor or 1.0)

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        """Where cells stand is asked of the patchifier; seconds and the first frame's shorter span follow from that."""
        placed = partial(_placed_cells, dit.patchifier.get_latent_coords, placing)
        with replaced(dit.patchifier, "get_latent_coords", placed):
            yield {}


def _placed_cells(own: Forward, placing: Placing, frames: int, height: int, width: int, *args) -> torch.Tensor:
    """Corners of the cells, (B, 3, tokens) or with their ends (B, 3, tokens, 2), at the places of `placing`."""
    placing.meet((frames, height, width))
    cells = own(frames, height, width, *args)
    placed = cells.float()
    for axis, at in placing.tokens.items():
        start = cells[:, axis, :, :1] if cells.ndim == 4 else cells[:, axis]
        placed[:, axis] = at.to(placed)[start.long()] + (cells[:, axis] - start)
    return placed


LTX_VIDEO = LTX()

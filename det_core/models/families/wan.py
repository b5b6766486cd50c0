"""Wan 2.1 and 2.2: self-attention over video tokens only; text comes in by cross-attention.

The paper has no Wan experiment: the training values are those it uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward, overridden
from .family import Costs, Family
from .placing import Placing, RotaryTable, placed_rotary, starts
from .projections import Stack
from .spec import EXPERTS, Defaults, DiTSpec, Layout, Tap, unwrapped

CAUTION = (
    "The author of DeT reports that temporal kernels do not work on Wan. They train and apply here, but expect "
    "little of the motion to transfer."
)


def _attention_keys(diffusers: str, native: str) -> tuple[tuple[str, str], ...]:
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
    *_attention_keys("attn1", "self_attn"),
    *_attention_keys("attn2", "cross_attn"),
    ("blocks.{}.norm2", "blocks.{}.norm3"),
    ("blocks.{}.ffn.net.0.proj", "blocks.{}.ffn.0"),
    ("blocks.{}.ffn.net.2", "blocks.{}.ffn.2"),
    ("blocks.{}.scale_shift_table", "blocks.{}.modulation"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out", "head.head"),
)


class Experts(nn.Module):
    """The two transformers of Wan 2.2 A14B as one: `high` acts at times from `boundary` (0 to 1000) on, `low` below.

    Called as either of them; a batch may hold times of both.
    """

    def __init__(self, high: nn.Module, low: nn.Module, boundary: float):
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary

    @property
    def config(self) -> Any:
        return self.high.config

    @property
    def dtype(self) -> torch.dtype:
        return self.high.dtype

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Inside, one expert acts at all times."""
        own, self.boundary = self.boundary, {"high": -math.inf, "low": math.inf}[name]
        try:
            yield
        finally:
            self.boundary = own

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor]:
        out = torch.empty_like(hidden_states)
        noisy = timestep >= self.boundary
        for expert, chosen in ((self.high, noisy), (self.low, ~noisy)):
            if len(rows := chosen.nonzero().flatten()):
                inputs = (hidden_states[rows], timestep[rows], encoder_hidden_states[rows])
                out = out.index_copy(0, rows, expert(*inputs, **kwargs)[0].to(out.dtype))
        return (out,)


def experts_of(transformer: nn.Module) -> tuple[nn.Module, ...]:
    """The transformers that a Wan consists of: one, or two."""
    return (transformer.high, transformer.low) if isinstance(transformer, Experts) else (transformer,)


class Wan(Family):
    name = "wan"
    title = "Wan"
    diffusers_class = "WanTransformer3DModel"
    pipeline = "WanPipeline"
    native_modules = ("blocks.0.self_attn.o", "head.modulation", "patch_embedding")
    diffusers_marks = ("condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight")
    native_marks = ("head.modulation", "blocks.0.self_attn.q.weight")
    rules = RULES
    stacks = ((Stack.plain("blocks", "attn1"), Stack.plain("blocks", "self_attn", tuple("qkvo"))),)
    costs = Costs(13.6, 5.9, 3.0, 13.9, 0, 0)
    half_costs = Costs(19.7, 7.9, 3.0, 21.0, 30.0, 1.0)

    def layout_of(self, model: nn.Module) -> Layout | None:
        return "diffusers" if isinstance(model, Experts) else super().layout_of(model)

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        if isinstance(model, Experts):
            one = self.bind(model.high, layout)
            pairs = [[replace(t, input=f"{e}.{t.input}", output=f"{e}.{t.output}") for e in EXPERTS] for t in one.taps]
            return replace(one, taps=tuple(tap for pair in pairs for tap in pair), boundary=model.boundary)
        if layout == "diffusers":
            config = model.config
            dim, count = config.num_attention_heads * config.attention_head_dim, config.num_layers
            patch, latent_channels, attention = config.patch_size, config.out_channels, "attn1"
        elif hasattr(model.blocks[0], "forward_gen"):
            raise ValueError(
                "Wan Animate 2 computes the video and its pose in one attention, which has no place for a motion "
                "adapter: use another Wan model"
            )
        else:
            dim, count = model.dim, len(model.blocks)
            patch, latent_channels, attention = model.patch_size, model.out_dim, "self_attn"
        fine_vae = latent_channels != 48  # the 5B model of Wan 2.2 has its own VAE, of 16x16 pixels a cell
        return DiTSpec(
            family=self,
            layout=layout,
            dim=dim,
            taps=tuple(Tap(f"blocks.{i}.{attention}", f"blocks.{i}.{attention}") for i in range(count)),
            patch=tuple(patch),
            frames=FrameMap((1,), (4,)),
            spatial_compression=8 if fine_vae else 16,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(cfg=5.0, shift=5.0, width=832 if fine_vae else 704, fps=16.0 if fine_vae else 24.0),
            caution=CAUTION,
        )

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        ropes = [expert.rope for expert in experts_of(transformer)]
        widths = (ropes[0].t_dim, ropes[0].h_dim, ropes[0].w_dim)
        axes = placing.axes(starts(widths), widths, RotaryTable(10000.0, torch.float64))
        return [(rope, partial(placed_rotary, rope.forward, placing, axes)) for rope in ropes]

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        """Evenly spaced positions go through the core's `rope_options`; uneven ones take the place of token numbers."""
        even = all(_is_even(at) for at in placing.tokens.values())
        uneven = [] if even else [(dit.rope_embedder, partial(_looked_up, dit.rope_embedder.forward, placing))]
        with overridden([(dit, partial(placing.sized, dit.forward)), *uneven]):
            yield {"rope_options": _rope_options(placing)} if even else {}

    def encode_prompts(self, pipe: Any, prompts: list[str], device: torch.device) -> dict[str, torch.Tensor]:
        # The pipeline's own length, longer than that of its encode_prompt: there is no mask, so padding counts.
        text, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=device, max_sequence_length=512)
        return {"encoder_hidden_states": text}

    def transformer_of(self, pipe: Any) -> nn.Module:
        second = getattr(pipe, "transformer_2", None)
        boundary = 1000 * (pipe.config.boundary_ratio or 0)
        return pipe.transformer if second is None else Experts(pipe.transformer, second, boundary)

    def latent_statistics(self, vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        ffn = experts_of(unwrapped(transformer))[0].blocks[0].ffn
        linears = [part for part in ffn.modules() if hasattr(part, "out_features")]
        return linears[0].out_features / spec.dim


def _is_even(at: torch.Tensor) -> bool:
    return len(at) < 3 or bool((at.diff() - at.diff()[0]).abs().max() < 1e-9)


def _rope_options(placing: Placing) -> dict[str, float]:
    """The core's scale and shift of each axis, for evenly spaced positions."""
    options = {}
    for axis, at in placing.tokens.items():
        step = at[1] - at[0] if len(at) > 1 else torch.ones(())
        options |= {f"scale_{'tyx'[axis]}": step.item(), f"shift_{'tyx'[axis]}": at[0].item()}
    return options


def _looked_up(embed: Forward, placing: Placing, ids: torch.Tensor) -> torch.Tensor:
    """The rotary embedding of token numbers 0, 1, 2, ... (B, tokens, 3) with the place of each number in its stead."""
    ids = ids.clone()
    for axis, at in placing.tokens.items():
        ids[..., axis] = at.to(ids)[ids[..., axis].round().long()]
    return embed(ids)


WAN = Wan()

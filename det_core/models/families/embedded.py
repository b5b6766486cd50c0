"""The embedded DiTs, CogVideoX in small. Training and sampling values were found by measurement on the first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ...media.frame_map import FrameMap
from .cogvideox import CogVideoX
from .family import Costs
from .spec import Defaults, DiTSpec, Layout

KERNEL_SIZE = 3
LORA = {"weight_decay": 1e-2, "lr": 1e-2, "rank": 16, "decay": True, "motion_loss": "none", "batch": 4}


class Embedded(CogVideoX):
    name = "embedded"
    title = "the embedded DiT"
    pipeline = ""
    diffusers_marks = native_marks = ()  # it is never loaded from a checkpoint of a base model
    # Its attention is two matrix products, with the whole map between them, in heads of 64 channels.
    costs = half_costs = Costs(9.8, 5.3, 1.0, 9.9, 0, -0.9, map_block=0.77 / 64, map_inside=1.37 / 64)
    of_sprites = True
    plain_lora = {"rank": 16, "lr": 2e-2}  # a model of a few million parameters needs larger steps
    text_tokens = 8
    channels = 16  # that its transformer reads
    lora_settings = {"spatial": {**LORA, "steps": 100}, "temporal": {**LORA, "steps": 400}}

    def layout_of(self, model: nn.Module) -> Layout | None:
        layout = super().layout_of(model)
        config = model if layout == "native" else getattr(model, "config", None)
        # No CogVideoX has tokens of a single cell.
        return layout if layout and (config.patch_size, config.in_channels) == (1, self.channels) else None

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        spec = super().bind(model, layout)
        defaults = Defaults(
            mid_dim=32,
            kernel_size=KERNEL_SIZE,
            init_std=(spec.dim * KERNEL_SIZE) ** -0.5,  # the scale of PyTorch's own convolutions
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
        return replace(spec, frames=FrameMap((), (1,)), defaults=defaults)


class EmbeddedWorld(Embedded):
    """Embedded model 2: beside the noisy latents it reads the first frame's, which a condition may give as
    `first_frame` (B, 24, 1, h, w); without it they are zeros."""

    name = "embedded-world"
    title = "the embedded DiT of the world"
    channels = 48
    of_world = True

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        """Its motions lie deeper than model 1's: of its 8 blocks the first 6 are kept."""
        spec = super().bind(model, layout)
        return replace(spec, defaults=replace(spec.defaults, drop_fraction=0.25))

    def latent_channels(self, transformer: nn.Module) -> int:
        return transformer.config.out_channels

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        given = torch.zeros_like(x_t)
        if "first_frame" in cond:
            given[:, :, :1] = cond["first_frame"].to(x_t)
        text = {name: value for name, value in cond.items() if name != "first_frame"}
        return super().call(transformer, torch.cat([x_t, given], 1), t, text, guidance)


EMBEDDED = Embedded()
EMBEDDED_WORLD = EmbeddedWorld()

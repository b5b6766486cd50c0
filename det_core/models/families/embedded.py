"""The embedded DiTs, CogVideoX in small. Training and sampling values were found by measurement on the first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward
from .cogvideox import CogVideoX
from .family import Costs
from .placing import Placing
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
        """More moves here than on model 1, and lies deeper: its kernels are wider, and of the 8 blocks 6 are kept."""
        spec = super().bind(model, layout)
        return replace(spec, defaults=replace(spec.defaults, mid_dim=64, drop_fraction=0.25))

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

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        """Where a call's first frame is not the clip's, it is not given: it stands elsewhere in the clip."""
        overrides = super().place(transformer, spec, placing)
        if placing.tokens.get(0, [0.0])[0] == 0:
            return overrides
        return [*overrides, (transformer, partial(_nothing_given, transformer.forward))]


def _nothing_given(forward: Forward, seen: torch.Tensor, *args, **kwargs):
    """A call of a transformer without the second half of the channels that it sees, (B, T, C, H, W)."""
    noisy = seen.chunk(2, dim=2)[0]
    return forward(torch.cat([noisy, torch.zeros_like(noisy)], 2), *args, **kwargs)


EMBEDDED = Embedded()
EMBEDDED_WORLD = EmbeddedWorld()

"""The base models, one a file: how each is recognised, called, tapped, placed, sampled, what it costs, how its keys are
named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .blocks import format_blocks, kept_blocks, parse_blocks
from .cogvideox import COGVIDEOX
from .embedded import EMBEDDED, EMBEDDED_WORLD
from .family import Family
from .hunyuan_video import HUNYUAN_VIDEO
from .hunyuan_video15 import HUNYUAN_VIDEO_15
from .ltx import LTX_VIDEO
from .ltx2 import LTX_2
from .minimax_h3 import MINIMAX_H3
from .spec import Defaults, DiTSpec, Tap, unwrapped
from .stepvideo import STEP_VIDEO
from .wan import WAN

__all__ = [
    "Defaults",
    "DiTSpec",
    "Family",
    "Tap",
    "call_grid",
    "format_blocks",
    "kept_blocks",
    "native_weights",
    "parse_blocks",
    "spec_for",
    "to_diffusers",
    "to_native",
    "unwrapped",
]

# The embedded DiTs go before CogVideoX, HunyuanVideo 1.5 before HunyuanVideo and LTX-2 before LTX-Video, whose modules
# they have, too.
FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        EMBEDDED,
        EMBEDDED_WORLD,
        COGVIDEOX,
        HUNYUAN_VIDEO_15,
        HUNYUAN_VIDEO,
        WAN,
        LTX_2,
        LTX_VIDEO,
        MINIMAX_H3,
        STEP_VIDEO,
    )
}


def spec_for(model: nn.Module) -> DiTSpec:
    """Recognise a diffusers transformer by its class, or a native (ComfyUI) diffusion model by its structure.

    Raises ValueError naming the class and what is supported.
    """
    model = unwrapped(model)
    for family in FAMILIES.values():
        if layout := family.layout_of(model):
            return family.bind(model, layout)
    raise ValueError(
        f"{type(model).__name__} is not a model that motion adapters know; supported are the text-to-video models "
        + supported("and")
    )


def supported(conjunction: str) -> str:
    """The families that weights can be of, in words."""
    *titles, last = [family.title for family in FAMILIES.values() if family.native_marks]
    return f"{', '.join(titles)} {conjunction} {last}"


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    """Token grid (T, H, W) of one call `transformer(*args, **kwargs)` of a diffusers transformer."""
    return spec.family.call_grid(spec, args, kwargs)


def native_weights(state_dict: Mapping[str, torch.Tensor]) -> tuple[Family, Mapping[str, torch.Tensor]]:
    """(family, weights under native names), told by tensors that no other family has.

    Raises: ValueError if the checkpoint is of no supported family.
    """
    known = [family for family in FAMILIES.values() if family.native_marks]
    for family in known:
        if all(mark in state_dict for mark in family.native_marks):
            return family, state_dict
    for family in known:
        if family.diffusers_marks and all(mark in state_dict for mark in family.diffusers_marks):
            return family, family.to_native(state_dict)
    raise ValueError(f"these are not the weights of {supported('or')}")


def to_native(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A diffusers state dict of the family `name` (`DiTSpec.name`) under its native (ComfyUI) names and shapes."""
    return FAMILIES[name].to_native(state_dict)


def to_diffusers(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The exact inverse of `to_native`."""
    return FAMILIES[name].to_diffusers(state_dict)

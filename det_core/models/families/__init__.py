"""The base models: how each is recognised, where an adapter taps it, what its defaults are, how its keys are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .blocks import format_blocks, kept_blocks, parse_blocks
from .cogvideox import COGVIDEOX
from .hunyuan_video import HUNYUAN_VIDEO
from .ltx import LTX
from .spec import Defaults, DiTSpec, Family, Tap
from .wan import WAN

__all__ = [
    "Defaults",
    "DiTSpec",
    "Tap",
    "call_grid",
    "format_blocks",
    "kept_blocks",
    "parse_blocks",
    "spec_for",
    "to_diffusers",
    "to_native",
    "unwrapped",
]

FAMILIES: dict[str, Family] = {
    "cogvideox": COGVIDEOX,
    "hunyuan_video": HUNYUAN_VIDEO,
    "wan": WAN,
    "ltx": LTX,
    "embedded": COGVIDEOX,
}


def spec_for(model: nn.Module) -> DiTSpec:
    """Recognise a diffusers transformer by its class, or a native (ComfyUI) diffusion model by its structure.

    Raises ValueError naming the class and what is supported.
    """
    model = unwrapped(model)
    class_names = {c.__name__ for c in type(model).__mro__}
    for family in FAMILIES.values():
        if family.is_native(model):  # first: ComfyUI's CogVideoX class has the same name as that of diffusers
            return family.bind(model, "native")
        if family.diffusers_class in class_names:
            return family.bind(model, "diffusers")
    raise ValueError(
        f"{type(model).__name__} is not a model that motion adapters know; supported are the text-to-video models "
        "CogVideoX, HunyuanVideo, Wan and LTX-Video"
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a torch.compile wrapper, or the model itself."""
    return getattr(model, "_orig_mod", model)


def call_grid(spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    """Token grid (T, H, W) of one call `transformer(*args, **kwargs)` of a diffusers transformer."""
    return FAMILIES[spec.name].call_grid(spec, args, kwargs)


def to_native(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A diffusers state dict of the family `name` (`DiTSpec.name`) under its native (ComfyUI) names and shapes."""
    return FAMILIES[name].to_native(state_dict)


def to_diffusers(name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The exact inverse of `to_native`."""
    return FAMILIES[name].to_diffusers(state_dict)

"""A base model whole, as a transfer needs it: denoiser, video codec and text encoder behind one face."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from .compute.precision import Compute
from .denoiser import Condition, DiffusersDenoiser
from .families import DiTSpec, spec_for
from .families.stepvideo import STEP_VIDEO

EMBEDDED = "embedded"
EMBEDDED_WORLD = "embedded-world"  # knows several objects, limbs, a camera, and takes a first frame


class BaseModel(Protocol):
    """Convention: frames are (T, H, W, 3) float32 in [0, 1]; latents are (B, C, T, H, W) in the denoiser's space."""

    name: str
    denoiser: DiffusersDenoiser
    at_once: int  # videos that are best sampled together

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Encode prompts to a condition of batch len(prompts); an empty prompt is the unconditional one."""

    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames of the model's size -> latents (1, C, T, H, W)."""

    def decode_video(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (1, C, T, H, W) -> frames on the CPU."""


def load_base_model(model: str | Path, compute: Compute | str = "cpu", *, low_vram: bool = False) -> BaseModel:
    """The embedded DiTs for "embedded" and "embedded-world", otherwise a local diffusers folder of CogVideoX,
    HunyuanVideo, Wan or LTX, or the published folder of Step-Video-T2V.

    compute: where and in which number format it is run; a device's name takes what is right for it.
    low_vram: keep a diffusers model's weights in RAM and bring them to the device block by block.
    Raises: ValueError if the folder is missing or holds no such pipeline. Nothing is ever downloaded.
    """
    compute = compute if isinstance(compute, Compute) else Compute.on(compute)
    if str(model) == EMBEDDED:
        from .embedded.base_model import EmbeddedModel

        return EmbeddedModel(compute)
    if str(model) == EMBEDDED_WORLD:
        from .embedded.world.base_model import EmbeddedWorld

        return EmbeddedWorld(compute)
    from .diffusers_folder import DiffusersFolder, folder_family

    kind = DiffusersFolder
    if folder_family(Path(model))[0] is STEP_VIDEO:
        from .stepvideo_folder import StepVideoFolder as kind
    return kind(Path(model), compute, low_vram=low_vram)


def base_model_spec(model: str | Path) -> DiTSpec:
    """What `load_base_model` would load, told before: sizes, blocks, defaults. Of a folder no weight is read.

    Raises: ValueError if the folder is missing or holds no such pipeline.
    """
    if str(model) == EMBEDDED:
        from .embedded.model import build_transformer

        return spec_for(build_transformer())
    if str(model) == EMBEDDED_WORLD:
        from .embedded.world.model import build_world_transformer

        return spec_for(build_world_transformer())
    from .diffusers_folder import folder_family, folder_spec

    if folder_family(Path(model))[0] is STEP_VIDEO:
        from .stepvideo_folder import folder_spec
    return folder_spec(Path(model))

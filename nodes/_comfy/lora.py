"""LoRAs between det_core and ComfyUI's sockets: LORA_MODEL, stills of a video, samples while training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from comfy_api.latest import io
from safetensors.torch import save_file

from ...det_core.files import atomic_write
from ...det_core.fym.heads import HeadMap
from ...det_core.fym.sparse import Example, Examples
from ...det_core.lora.file import lora_tensors
from ...det_core.lora.lora import LoRA
from ...det_core.models.families import DiTSpec
from .preview import Sampler

FymHeads = io.Custom("FYM_HEADS")


class MotionLoRA(dict):
    """LORA_MODEL: tensors by ComfyUI's key names, and what is known of them, which goes into the file."""

    def __init__(self, tensors: dict[str, torch.Tensor], metadata: dict[str, str]):
        super().__init__(tensors)
        self.metadata = metadata


def head_map(value) -> HeadMap:
    """What came in as FYM_HEADS. Raises ValueError if it is something else."""
    if not isinstance(value, HeadMap):
        raise ValueError("this is not a head map: connect Classify Heads (Follow-Your-Motion)")
    return value


def lora_model(lora: LoRA, spec: DiTSpec, steps: int) -> MotionLoRA:
    """LORA_MODEL as the nodes that load and save LoRAs take it: native key names, float32, on the CPU."""
    tensors = {name: tensor.detach().float().clone() for name, tensor in lora_tensors(lora, spec, "native").items()}
    return MotionLoRA(tensors, {**lora.metadata, "base_model": spec.name, "steps": str(steps)})


def write_lora(lora: dict[str, torch.Tensor], path: Path) -> dict[str, str]:
    """Write LORA_MODEL, of any node, atomically as a .safetensors file; returns the metadata that it was given."""
    metadata = {"format": "pt", **getattr(lora, "metadata", {})}
    with atomic_write(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in lora.items()}, temporary, metadata)
    return metadata


def encoded_stills(vae, frames: torch.Tensor, latents: torch.Tensor) -> list[torch.Tensor]:
    """Every frame of a video (T, H, W, 3) encoded alone, as the VAE gives it: (1, C, 1, H', W') each.

    Raises: ValueError if the frames are not of the size of `latents` (1, C, T', H', W').
    """
    stills = [vae.encode(frame[None]) for frame in frames]
    if stills[0].shape[-2:] != latents.shape[-2:] or stills[0].shape[1] != latents.shape[1]:
        height, width = frames.shape[1:3]
        raise ValueError(
            f"frames of {width}x{height} pixels become latents of {tuple(stills[0].shape[-2:])}, but the latents are "
            f"{tuple(latents.shape[-2:])}: connect the very frames that you encode, and the same VAE"
        )
    return stills


def still_examples(stills: list[torch.Tensor], spec: DiTSpec) -> Examples:
    """Latents of single frames as videos of one time step: where tokens span two latent frames, each frame twice."""
    return Examples([Example(still.expand(-1, -1, spec.patch[0], -1, -1)) for still in stills])


class LoRASampler(Sampler):
    """Samples a LoRA as it stands, alone on the base model at strength 1."""

    @contextmanager
    def _applied(self, adapter: LoRA) -> Iterator:
        denoiser = self.denoiser
        with denoiser.detached(), adapter.attached_to(denoiser.transformer), torch.inference_mode():
            yield denoiser.patcher  # the LoRA acts in the loaded model itself

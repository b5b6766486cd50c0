"""LORA_MODEL: a LoRA as ComfyUI's own nodes load, save and merge it."""

from __future__ import annotations

from pathlib import Path

import torch

from ....det_core.files import write_tensors
from ....det_core.lora.file import lora_tensors
from ....det_core.lora.lora import LoRA
from ....det_core.models.families import DiTSpec


class MotionLoRA(dict):
    """LORA_MODEL: tensors by ComfyUI's key names, and what is known of them, which goes into the file."""

    def __init__(self, tensors: dict[str, torch.Tensor], metadata: dict[str, str]):
        super().__init__(tensors)
        self.metadata = metadata


def lora_model(lora: LoRA, spec: DiTSpec, steps: int) -> MotionLoRA:
    """LORA_MODEL as the nodes that load and save LoRAs take it: native key names, float32, on the CPU."""
    tensors = {name: tensor.detach().float().clone() for name, tensor in lora_tensors(lora, spec, "native").items()}
    return MotionLoRA(tensors, {**lora.metadata, "base_model": spec.name, "steps": str(steps)})


def write_lora(lora: dict[str, torch.Tensor], path: Path) -> None:
    """Write LORA_MODEL, of any node, atomically as a .safetensors file, with what is known of it."""
    write_tensors(path, lora, {"format": "pt", **getattr(lora, "metadata", {})})

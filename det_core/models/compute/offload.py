"""Train through a base model that does not fit: one block's weights on the device at a time, the rest in RAM."""

from __future__ import annotations

import torch
from torch import nn

from ..families import DiTSpec, unwrapped
from .checkpointing import block_paths


def offload_blocks(transformer: nn.Module, spec: DiTSpec, device: torch.device | str) -> None:
    """Keep the weights of `transformer` in RAM and bring those of a block to `device` for the length of its call.

    For good: its parameters are placeholders from now on, outside of its calls. Training needs full checkpointing: a
    block is called again for its backward, and its weights are there only as long as that takes.
    Raises: ValueError without the accelerate package.
    """
    model = unwrapped(transformer)
    offload_layers(model, *{type(model.get_submodule(path)).__name__ for path in block_paths(spec)}, device=device)


def offload_layers(model: nn.Module, *classes: str, device: torch.device | str) -> None:
    """The same for any model: what is of one of these `classes` visits the device whole. Raises: as above."""
    try:
        from accelerate import cpu_offload
    except ImportError as error:
        raise ValueError("low memory needs the accelerate package: pip install accelerate") from error
    cpu_offload(model, torch.device(device), offload_buffers=True, preload_module_classes=sorted(classes))

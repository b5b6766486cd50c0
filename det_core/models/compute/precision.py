"""Where a base model computes, and in which number format: decided once, here. ComfyUI decides for
its MODELs itself, and their trainings run in its formats, without autocast; the embedded models alone ask here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Compute:
    """device: where a model is called. dtype: of its weights. bf16: compute under bfloat16 autocast, in training and in
    sampling. reason: why so, in words for a user."""

    device: torch.device
    dtype: torch.dtype
    bf16: bool
    reason: str

    @classmethod
    def on(cls, device: str | torch.device | None = None) -> Compute:
        """What is right for `device`; None takes the fastest there is."""
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        device = torch.device(device)
        low = fast_bf16(device)
        if device.type == "cpu":
            reason = "this CPU has instructions for bfloat16" if low else "this CPU has no instructions for bfloat16"
            return cls(device, torch.float32, low, f"float32 weights, {reason}")
        reason = "bfloat16 weights" if low else "bfloat16 weights, computed as they are: autocast would not be faster"
        return cls(device, torch.bfloat16, low, reason)


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """A region that computes in bfloat16 if `bf16`, otherwise in the formats that tensors have."""
    return torch.autocast(device.type, torch.bfloat16, bf16)


def stored_in(transformer: nn.Module) -> torch.dtype:
    """The format of a transformer's weights, and so of what it is called with. diffusers keeps a few in float32, which
    may come first (Wan's); it says the others' itself."""
    own = getattr(transformer, "dtype", None)
    return own if isinstance(own, torch.dtype) else next(transformer.parameters()).dtype


def computed_in(dtype: torch.dtype, bf16: bool) -> torch.dtype:
    """The format of what `autocast(..., bf16)` computes with weights of `dtype`."""
    return torch.bfloat16 if bf16 else dtype


def fast_bf16(device: torch.device | str) -> bool:
    """Whether matrix products on `device` are faster in bfloat16: GPUs, and CPUs that have instructions for it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))

"""Where bfloat16 is the faster way to compute."""

from __future__ import annotations

import torch


def fast_bf16(device: torch.device | str) -> bool:
    """Whether matrix products on `device` are faster in bfloat16: GPUs, and CPUs that have instructions for it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))

"""Whether a MODEL is as it was: its weights, and the forwards of its modules."""

from __future__ import annotations

import hashlib

import torch


def digest(module) -> str:
    sha = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sha.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def overridden(module) -> list[str]:
    return [name for name, part in module.named_modules() if "forward" in part.__dict__]

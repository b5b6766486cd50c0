"""A short name for everything that a training learns from, so that the same training is known again.

Known by value, not by graph: after a restart, in another workflow, with other node numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

LOOKED_AT = 64  # numbers of a weight; a model is not read as a whole


def fingerprint(*values: Any) -> str:
    """16 hexadecimal digits. Tensors count with every number, mappings in the order of their keys; of an object that
    is no plain value only its type counts."""
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()[:16]


def model_fingerprint(patcher) -> str:
    """Of a MODEL: its weights as they lie in its file and the LoRAs upon them, patched or injected, some numbers each.

    Sampling settings and wrappers do not count: a training draws its own times and calls the model itself.
    """
    digest = hashlib.sha256()
    with torch.inference_mode():
        model = patcher.model.diffusion_model
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            kept = patcher.backup.get(f"diffusion_model.{name}")  # the weight beneath a patch that is merged now
            _feed(digest, (name, _some(weight if kept is None else kept.weight)))
        for name in sorted(patcher.patches, key=str):
            _feed(digest, (name, [_patch(patch) for patch in patcher.patches[name]]))
        for name in sorted(patcher.injections, key=str):
            _feed(digest, (name, [_injection(injection) for injection in patcher.injections[name]]))
    return digest.hexdigest()[:16]


def _patch(value: Any, rounded: torch.dtype | None = None) -> Any:
    """A patch with some numbers of each tensor in it; LoRAs come as objects that hold their `weights`."""
    if isinstance(value, torch.Tensor):
        return _some(value if rounded is None else value.to(rounded))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_patch(item, rounded) for item in value]
    return _patch(value.weights, rounded) if hasattr(value, "weights") else value


def _injection(value: Any) -> Any:
    """What an injection puts into the model, as far as it can be told: of a bypassed LoRA its weights, which the
    function that injects them holds in its closure. ComfyUI rounds them to the model's format when it first does."""
    cells = getattr(value.inject, "__closure__", None) or ()
    hooks = [hook for cell in cells for hook in getattr(cell.cell_contents, "hooks", ())]
    return [(_patch(hook.adapter, torch.bfloat16), hook.multiplier) for hook in hooks]


def _some(tensor: torch.Tensor) -> tuple:
    stored = getattr(tensor, "_qdata", tensor)  # of a quantised weight
    flat = stored.detach().reshape(-1)
    count = min(LOOKED_AT, flat.numel())
    places = torch.arange(count) * flat.numel() // max(1, count)
    return tuple(stored.shape), flat[places.to(flat.device)]


def _feed(digest, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _feed(digest, str(key))
            _feed(digest, value[key])
    elif value is None or isinstance(value, (str, bytes, bool, int, float)):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, Sequence):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(type(value).__qualname__.encode())

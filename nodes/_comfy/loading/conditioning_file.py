"""A CONDITIONING as a .safetensors file: the tensors, and as JSON the numbers and texts beside them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ....det_core.files import atomic_write, copied

FORMAT = "det_conditioning"


def save_conditioning(path: Path, conditioning: list) -> None:
    """Write it whole. Raises: ValueError for what is neither tensor, number, text nor empty (a ControlNet, a hook)."""
    tensors: dict[str, torch.Tensor] = {}
    plain: list[dict] = []
    for index, (text, options) in enumerate(conditioning):
        tensors[f"{index}.cond"] = text.cpu().contiguous().clone()
        plain.append({})
        for name, value in options.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.cpu().contiguous().clone()
            elif value is None or isinstance(value, (bool, int, float, str)):
                plain[-1][name] = value
            else:
                raise ValueError(
                    f"this conditioning holds {name} ({type(value).__name__}), which is no part of an encoded prompt: "
                    "save it before other nodes add to it"
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, "options": json.dumps(plain)})


def load_conditioning(path: Path) -> list:
    """The inverse of `save_conditioning`. Raises: ValueError naming the file if it is none, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"{path.name} is no saved conditioning: choose one that Save Conditioning wrote")
            options = json.loads(about["options"])
            for key, tensor in copied(file).items():
                index, name = key.split(".", 1)
                options[int(index)][name] = tensor
    except (SafetensorError, OSError, KeyError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}; save the conditioning again") from None
    return [[entry.pop("cond"), entry] for entry in options]

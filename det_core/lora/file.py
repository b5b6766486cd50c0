"""The file of a LoRA: one .safetensors that ComfyUI's own LoRA loader, diffusers and peft read, and we as well.

Layout "native" (ComfyUI): `diffusion_model.<path>.lora_down.weight` and `.lora_up.weight`; layout "diffusers":
`transformer.<path>.lora_A.weight` and `.lora_B.weight`. There is no alpha: the factor is already in the up matrix, and
loaders take a missing alpha for a factor of 1. Where a layout fuses q, k and v into one layer, the three updates become
one of three times the rank, block-diagonal in its up matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..files import read_tensors, write_tensors
from ..models.families import DiTSpec
from ..models.families.projections import Layout, projections
from .lora import LoRA

_NAMES = {
    "native": ("diffusion_model.", "lora_down", "lora_up"),
    "diffusers": ("transformer.", "lora_A", "lora_B"),
}


def lora_tensors(lora: LoRA, spec: DiTSpec, layout: Layout = "native") -> dict[str, torch.Tensor]:
    """The tensors of a LoRA under the key names of `layout`, on the CPU, in the parameters' dtype."""
    prefix, down_name, up_name = _NAMES[layout]
    places, layers = projections(spec, layout), {}
    for (block, kind), (down, up) in lora.weights().items():
        place = places[block, kind]
        layers.setdefault(place.path, []).append((place, down.cpu(), up.cpu()))
    tensors = {}
    for path, parts in layers.items():
        down = torch.cat([part_down for _, part_down, _ in parts])
        up = torch.cat([place.placed(part_up.T) for place, _, part_up in parts]).T
        tensors[f"{prefix}{path}.{down_name}.weight"] = down.contiguous()
        tensors[f"{prefix}{path}.{up_name}.weight"] = up.contiguous()
    return tensors


def save_lora(path: str | Path, lora: LoRA, spec: DiTSpec, layout: Layout = "native") -> None:
    """Write a LoRA atomically, with its metadata, the base model and the layout."""
    own = {
        "format": "pt",
        "base_model": lora.base_model,
        "num_blocks": str(lora.num_blocks),
        "dim": str(lora.dim),
        "layout": layout,
    }
    write_tensors(path, lora_tensors(lora, spec, layout), {**lora.metadata, **own})


def load_lora(path: str | Path, spec: DiTSpec) -> LoRA:
    """Read a LoRA of attention projections, ours or of any program that writes these key names, frozen, on the CPU.

    Raises: ValueError, with the path, if the file is damaged, is no LoRA, or does not fit the model `spec`.
    """
    tensors, metadata = read_tensors(path)
    wrong = next((n for n, t in tensors.items() if not t.is_floating_point() or not t.isfinite().all()), None)
    if wrong is not None:
        raise ValueError(f'{path} is damaged: "{wrong}" is not of finite numbers')
    try:
        lora = lora_from_tensors(tensors, spec)
    except ValueError as error:
        made_for = metadata.get("base_model")
        told = f" (it was made for {made_for} with {metadata.get('num_blocks')} blocks)" if made_for else ""
        raise ValueError(f"{path}{told}: {error}") from None
    lora.metadata = metadata
    return lora


def lora_from_tensors(tensors: Mapping[str, torch.Tensor], spec: DiTSpec) -> LoRA:
    """The inverse of `lora_tensors`, from either layout. Raises ValueError for a tensor that has no place there."""
    layout = next((name for name, (prefix, *_) in _NAMES.items() if any(k.startswith(prefix) for k in tensors)), None)
    if layout is None:
        raise ValueError("this is not a LoRA of a video model: no key starts with diffusion_model. or transformer.")
    prefix, down_name, up_name = _NAMES[layout]
    remaining, weights = dict(tensors), {}
    for (block, kind), place in projections(spec, layout).items():
        keys = [f"{prefix}{place.path}.{name}.weight" for name in (down_name, up_name)]
        if not all(key in tensors for key in keys):
            continue
        down, up = (tensors[key] for key in keys)
        if (down.ndim, up.ndim) != (2, 2) or 0 in (*down.shape, *up.shape):
            raise ValueError(f"the update of {place.path} is no pair of matrices")
        alpha = tensors.get(f"{prefix}{place.path}.alpha")
        factor = 1.0 if alpha is None else alpha.item() / down.shape[0]
        for key in (*keys, f"{prefix}{place.path}.alpha"):
            remaining.pop(key, None)
        outputs = up.shape[0] // place.parts
        inner = spec.attention_dim
        if down.shape[0] != up.shape[1] or up.shape[0] % place.parts or (place.fused and outputs != inner):
            raise ValueError(f"the update of {place.path} does not fit {spec.describe()}")
        part = place.taken(up.T).T
        used = part.abs().sum(0) > 0 if place.fused else torch.ones(up.shape[1], dtype=torch.bool)
        if used.any():
            weights[block, kind] = (down[used].clone(), part[:, used] * factor)
        if (outputs, down.shape[1]) != ((spec.dim, inner) if kind == "o" else (inner, spec.dim)):
            raise ValueError(f"the update of {place.path} does not fit {spec.describe()}")
    if remaining:
        raise ValueError(f'"{next(iter(remaining))}" has no place in the attention of {spec.describe()}')
    return LoRA.from_weights(spec, weights)

"""The file of a motion adapter, and the import of the one that the paper's released code writes.

One .safetensors: tensors `blocks.{i}.down.weight` (mid_dim, dim, kernel_size) and `blocks.{i}.up.weight` (dim, mid_dim,
kernel_size); metadata text to text, of which `format_version`, `method`, `base_model`, `num_blocks`, `dim`, `mid_dim`
and `kernel_size` are always there, the last four checked against the tensors. Every key, and
who writes it: docs/develop/adapter-file.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ..files import is_plain, open_tensors, read_pickled, write_tensors
from ..models.families import parse_blocks

FORMAT_VERSION = 1
METHOD = "det"

_OUR_TENSOR = re.compile(r"blocks\.(0|[1-9][0-9]{0,2})\.(down|up)\.weight")
_REFERENCE_TENSOR = re.compile(
    r"(?:.*\.)?(single_)?(?:transformer_)?blocks\.([0-9]{1,3})\.attn1?\.processor\.temporal_emb\.conv([12])\.weight"
)


def write_adapter(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write an adapter file atomically; raises OSError with the path if it cannot be written."""
    metadata = {**metadata, "format_version": str(FORMAT_VERSION), "method": METHOD}
    write_tensors(path, tensors, metadata)


def read_adapter(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of an adapter file, both checked. Raises ValueError with the path."""
    with open_tensors(path) as file:
        metadata = _checked_metadata(path, file.metadata())
        dim, mid_dim, kernel_size = (int(metadata[key]) for key in ("dim", "mid_dim", "kernel_size"))
        shapes = {"down": [mid_dim, dim, kernel_size], "up": [dim, mid_dim, kernel_size]}
        names = set(file.keys())
        for name in sorted(names):
            match = _OUR_TENSOR.fullmatch(name)
            if not match or int(match[1]) >= int(metadata["num_blocks"]):
                raise ValueError(f'{path} is damaged: a motion adapter has no tensor "{name}"')
            if f"blocks.{match[1]}.{'up' if match[2] == 'down' else 'down'}.weight" not in names:
                raise ValueError(f"{path} is damaged: block {match[1]} has only one of its two tensors")
            stored = file.get_slice(name)
            if stored.get_dtype().startswith("F8"):
                raise ValueError(
                    f"{path} is stored as fp8 ({stored.get_dtype()}), which motion adapters are not: it was converted; "
                    "use the file as it was trained, or convert it to bf16"
                )
            if stored.get_shape() != shapes[match[2]] or stored.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                raise ValueError(
                    f'{path} is damaged: "{name}" is {stored.get_dtype()} {stored.get_shape()}, '
                    f"its metadata says {shapes[match[2]]}"
                )
        if not names:
            raise ValueError(f"{path} is damaged: it has no tensors")
        tensors = {name: file.get_tensor(name) for name in names}
    if wrong := next((name for name in sorted(names) if not tensors[name].isfinite().all()), None):
        raise ValueError(f'{path} is damaged: "{wrong}" holds NaN or infinity; train it anew')
    return tensors, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of an adapter file, checked. Raises ValueError with the path."""
    with open_tensors(path) as file:
        return _checked_metadata(path, file.metadata())


def read_reference(path: str | Path, first_single: int | None) -> dict[str, torch.Tensor]:
    """Tensors of the released code's `motion_embedding.pth`, under our names, float32. Raises ValueError with the path.

    Its names are `transformer_blocks.N.attn1.processor.temporal_emb.conv1|conv2.weight`, with or without a prefix.
    first_single: block index at which a model's single-stream blocks begin; None: after the double-stream ones found.
    """
    path, content = Path(path), read_pickled(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    found: dict[tuple[bool, int, str], torch.Tensor] = {}
    for name, tensor in content.items() if isinstance(content, dict) else ():
        match = _REFERENCE_TENSOR.fullmatch(name) if isinstance(name, str) else None
        if match and isinstance(tensor, torch.Tensor):
            if not is_plain(tensor) or not tensor.isfinite().all():
                raise ValueError(f'{path}: "{name}" is no plain tensor of finite numbers')
            found[bool(match[1]), int(match[2]), "down" if match[3] == "1" else "up"] = tensor.float()
    if not found:
        raise ValueError(f"{path} has no tensors temporal_emb.conv1 and .conv2: it is not a motion_embedding.pth")
    if first_single is None:
        first_single = 1 + max((block for single, block, _ in found if not single), default=-1)
    tensors = {
        f"blocks.{block + first_single if single else block}.{part}.weight": tensor
        for (single, block, part), tensor in found.items()
    }
    _check_reference_shapes(path, tensors)
    return tensors


def _check_reference_shapes(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    first = next((tensor for name, tensor in tensors.items() if name.endswith("down.weight")), None)
    if first is None or first.ndim != 3 or first.shape[2] % 2 == 0:
        raise ValueError(f"{path} holds no temporal convolutions of odd size: it is not a motion_embedding.pth")
    mid_dim, dim, kernel_size = first.shape
    shapes = {"down": (mid_dim, dim, kernel_size), "up": (dim, mid_dim, kernel_size)}
    for name, tensor in tensors.items():
        block, part = name.split(".")[1:3]
        if f"blocks.{block}.{'up' if part == 'down' else 'down'}.weight" not in tensors:
            raise ValueError(f"{path} is incomplete: block {block} has only one of its two convolutions")
        if tuple(tensor.shape) != shapes[part]:
            raise ValueError(f"{path}: block {block} has a kernel of shape {tuple(tensor.shape)}, not {shapes[part]}")


def _checked_metadata(path: str | Path, metadata: dict[str, str] | None) -> dict[str, str]:
    metadata = metadata or {}
    version = metadata.get("format_version", "")
    if metadata.get("method") != METHOD or not re.fullmatch("[0-9]{1,6}", version):
        raise ValueError(f"{path} is not a motion adapter (a LoRA or a model? those have their own loaders)")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"{path} was written by a newer version of this pack (file format {version}): update the pack")
    for key, digits in (("num_blocks", 3), ("dim", 7), ("mid_dim", 7), ("kernel_size", 3)):
        if not re.fullmatch(rf"[1-9][0-9]{{0,{digits - 1}}}", metadata.get(key, "")):
            raise ValueError(f'{path} is damaged: its metadata "{key}" is "{metadata.get(key, "")[:40]}"')
    if not metadata.get("base_model") or int(metadata["kernel_size"]) % 2 == 0:
        raise ValueError(f"{path} is damaged: its metadata names no base model or an even kernel size")
    try:
        parse_blocks(metadata.get("kept_blocks", ""), int(metadata["num_blocks"]))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: its metadata gives wrong kept blocks: {error}") from None
    return metadata

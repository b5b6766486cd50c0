"""Reading files that someone else may have made: what is wrong is a ValueError of one line that names the file, nothing
in a file is executed, and how much a file would take is read from its headers before any of it is unpacked."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

MAX_ARRAY_BYTES = 240_000_000  # of one array in an .npz: 15 million points in float64
MAX_TEXT_BYTES = 4096  # of a text in an .npz


@contextmanager
def open_tensors(path: str | os.PathLike) -> Iterator[safe_open]:
    """An open .safetensors file, on the CPU. Raises ValueError if it is missing, damaged, or another kind of file, also
    if that shows only when the body reads from it. What outlives the body is taken from it by `copied`."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, MemoryError) as error:
        raise ValueError(f"{path} is damaged or no .safetensors file: {_one_line(error)}") from None


def copied(file: safe_open, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Tensors of an open file, all or those of `names`. As the file gives them they would keep it mapped, and Windows
    lets no mapped file be written over."""
    return {name: file.get_tensor(name).clone() for name in (file.keys() if names is None else names)}


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file. Raises ValueError as `open_tensors` does."""
    with open_tensors(path) as file:
        return copied(file), file.metadata() or {}


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Metadata of a .safetensors file, its tensors left on the disk. Raises ValueError as `open_tensors` does."""
    with open_tensors(path) as file:
        return file.metadata() or {}


def checked_json(path: str | os.PathLike, what: str, text: str, *, limit: int = 1 << 20) -> Any:
    """The value that a text of a file holds as JSON; `what` names the text.

    limit: bytes. Lists and objects may lie in each other and beside each other a few hundred times.
    Raises: ValueError naming the file.
    """
    if len(text) > limit or text.count("[") + text.count("{") > 1000:
        raise ValueError(f"{path} is damaged: its {what} is too long")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its {what} cannot be read: {_one_line(error)}") from None


def read_pickled(path: str | os.PathLike) -> Any:
    """What a .pth file of plain tensors holds, on the CPU; nothing in it is executed.

    Raises: ValueError if it is missing, holds anything but tensors and plain values, or is a compressed archive.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > os.path.getsize(path):
                raise ValueError("it is compressed, which torch.save never does")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or broken pickle can raise anything
        raise ValueError(f"{path} was not opened, it is no plain file of tensors: {_one_line(error)}") from None


def is_plain(tensor: Any) -> bool:
    """Whether this is a dense tensor of real numbers all of which are in its file: neither a view that repeats a few of
    them without end, nor one that has no numbers."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    if tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def read_arrays(path: str | os.PathLike, names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays called `names` of an .npz file, those that are there; texts among them as arrays of one str.

    Raises: ValueError, without the file's name, if one is not of numbers or text, or too large; what zipfile raises.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        for name in sorted(set(names) & set(members)):
            with archive.open(members[name]) as file:
                _check_header(name, file)
            with archive.open(members[name]) as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def array_names(path: str | os.PathLike) -> list[str]:
    """The names of the arrays in an .npz file."""
    with zipfile.ZipFile(path) as archive:
        return sorted(member.removesuffix(".npy") for member in archive.namelist())


def _check_header(name: str, file) -> None:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f'"{name}" is written in an unusual way')
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fbiuU":
        raise ValueError(f'"{name}" holds no real numbers, but {dtype}')
    if size > (MAX_TEXT_BYTES if dtype.kind == "U" else MAX_ARRAY_BYTES):
        raise ValueError(f'"{name}" is too large: {" x ".join(map(str, shape))} values')


def _one_line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0][:200]


def shards(folder: Path) -> list[Path]:
    """The .safetensors files of a model's folder, by its index or alone. Raises ValueError naming those missing."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder} is incomplete: {', '.join(missing)} missing; download the folder again")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no .safetensors weights")
    return files[:1]

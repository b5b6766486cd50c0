"""Tracks on disk: our .safetensors and .npz, the MTBench layout (.npz and .pth).

A foreign .pth is opened weights-only, an .npz without pickles: nothing in a file can run.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..files import array_names, atomic_write, copied, is_plain, open_tensors, read_arrays, read_pickled, write_tensors

if TYPE_CHECKING:
    from .tracks import Tracks

FORMAT_VERSION = "1"
Make = Callable[..., "Tracks"]  # Tracks itself, which imports this file

FAR_OUTSIDE = 4.0  # widths or heights of the picture: no tracker follows a point that far


def save_tracks(tracks: Tracks, path: str | os.PathLike, metadata: Mapping[str, str]) -> None:
    """Write `tracks` atomically; the tracker's name and the sizes go into the file as strings, with `metadata`.

    Raises: ValueError for another suffix than .safetensors or .npz; OSError where the file cannot be written.
    """
    path = Path(path)
    tensors = {"points": tracks.points.cpu().contiguous(), "visible": tracks.visible.cpu().contiguous()}
    if tracks.query_frames is not None:
        tensors["query_frames"] = tracks.query_frames.contiguous()
    header = {
        "format": "det_tracks",
        "format_version": FORMAT_VERSION,
        "tracker": tracks.tracker,
        "points": str(len(tracks)),
        "frames": str(tracks.frames),
    }
    header = {**{key: str(value) for key, value in metadata.items()}, **header}
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, header)
    elif path.suffix == ".npz":
        with atomic_write(path) as temporary:
            np.savez(
                temporary,
                **{name: tensor.numpy() for name, tensor in tensors.items()},
                **{f"meta_{key}": np.array(value) for key, value in header.items()},
            )
    else:
        raise ValueError(f"cannot save tracks as {path.name}: name the file .safetensors or .npz")


def load_tracks(path: str | os.PathLike, make: Make) -> Tracks:
    """Read tracks; `make` is Tracks.

    Layouts: .safetensors and .npz with `points` (N, T, 2), `visible` (N, T) and maybe `query_frames` (N,); .npz of
    MTBench with `tracks` (T, N, 2) and `visible` (T, N); .pth of MTBench, one tensor (T, N, 3) = (x, y, visible).
    Values are taken as they are: MTBench also divides by width and height, but counts from the centre of the first
    pixel, half a pixel off.

    Raises: ValueError, one line that names the file, if it is missing, damaged, or of none of these layouts.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such tracks file: {path}")
    try:
        if path.suffix in _READERS:
            return _in_pictures(_READERS[path.suffix](path, make))
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or is no tracks file; make the tracks again") from error
    except (ValueError, MemoryError) as error:
        said = " ".join(str(error).split())
        raise ValueError(said if said.startswith(str(path)) else f"{path}: {said}") from error
    raise ValueError(f"{path}: tracks are .safetensors, .npz or .pth files")


def _from_safetensors(path: Path, make: Make) -> Tracks:
    with open_tensors(path) as file:
        names = set(file.keys())
        if not {"points", "visible"} <= names:
            raise ValueError(f"no tracks in it (found {_listed(names)}); expected points and visible")
        found = copied(file, names & {"points", "visible", "query_frames"})
        return _real(make, found, (file.metadata() or {}).get("tracker", ""))


def _from_npz(path: Path, make: Make) -> Tracks:
    arrays = read_arrays(path, {"points", "visible", "query_frames", "tracks", "meta_tracker"})
    found = {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind != "U"}
    if {"points", "visible"} <= found.keys():
        return _real(make, found, str(arrays.get("meta_tracker", "")))
    if {"tracks", "visible"} <= found.keys():
        return _time_major(make, found["tracks"], found["visible"])
    names = set(array_names(path))
    raise ValueError(f"no tracks in it (found {_listed(names)}); expected points and visible, or tracks and visible")


def _real(make: Make, found: Mapping[str, torch.Tensor], tracker: str) -> Tracks:
    points, visible = found["points"], found["visible"]
    if points.is_complex() or visible.is_complex():
        raise ValueError("its points or visibility are complex numbers")
    return make(points, visible, tracker, found.get("query_frames"))


def _from_pth(path: Path, make: Make) -> Tracks:
    tensor = read_pickled(path)
    if isinstance(tensor, torch.Tensor) and not is_plain(tensor):
        raise ValueError("its tensor is no plain one of real numbers")
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3 or tensor.shape[2] != 3:
        found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ValueError(f"expected one tensor (frames, points, 3) = (x, y, visible), found {found}")
    return _time_major(make, tensor[..., :2], tensor[..., 2])


def _time_major(make: Make, points: torch.Tensor, visible: torch.Tensor) -> Tracks:
    if points.ndim != 3 or visible.ndim != 2:
        raise ValueError(
            f"expected positions (frames, points, 2) and visibility (frames, points), "
            f"found {tuple(points.shape)} and {tuple(visible.shape)}"
        )
    return make(points.transpose(0, 1).contiguous(), visible.T.contiguous())


def _in_pictures(tracks: Tracks) -> Tracks:
    """The tracks, unless they can only be in pixels: half of what is seen lies far outside of the picture."""
    seen = tracks.points[tracks.visible]
    if len(seen) and seen.abs().amax(-1).median() > FAR_OUTSIDE:
        raise ValueError(
            "its positions are in pixels: divide x by the picture's width and y by its height, so that the picture "
            "spans 0 to 1"
        )
    return tracks


_READERS = {".safetensors": _from_safetensors, ".npz": _from_npz, ".pth": _from_pth, ".pt": _from_pth}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)[:4]) or "nothing"

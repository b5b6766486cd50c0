"""Files that are either whole or not there: every write of the project goes through `atomic_write`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

STALE = 3600  # seconds after which a file that is not whole belongs to no one, if its process cannot be asked for
_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:4]


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path, in a folder of its own beside `path`; on success the file there becomes `path`, on any
    error it is removed.

    The temporary file has the name of `path`, since many writers choose their format by its suffix, and its own folder,
    since some (safetensors) make files beside it that a kill would leave behind. Missing parent folders are made. The
    earlier file, if any, stays as it was until the new one is safely on the disk. What killed processes have left of
    earlier writes to `path` is removed first.

        with atomic_write("adapter.safetensors") as temporary:
            save_file(tensors, temporary)

    Raises: OSError with the path in its message if the folder cannot be written to or the disk is full. Any other
        exception of the body passes through unchanged.
    """
    path = Path(path)
    workshop = path.with_name(f".{path.name}.{_HERE}-{os.getpid():x}-{secrets.token_hex(4)}")
    temporary = workshop / path.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        workshop.mkdir()
        with open(temporary, "xb") as file:  # fails here, before any work, where the folder cannot be written to
            mode = os.fstat(file.fileno()).st_mode
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # some network drives let no one change modes
            os.chmod(temporary, mode)  # safetensors leaves its files readable by their owner only
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    except SafetensorError as error:  # its writer reports a full disk or a missing right as its own type
        if "os error" not in str(error):
            raise
        raise OSError(f"cannot write {path}: {error}; nothing was changed") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` atomically as indented JSON. Raises OSError as `atomic_write` does."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file atomically; tensors may be anywhere. Raises OSError as `atomic_write` does.

    Text that is no Unicode (a file's name, an argument in another encoding) is written with question marks."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = {key: str.encode(value, "utf-8", "replace").decode() for key, value in metadata.items()}
    with atomic_write(path) as temporary:
        save_file(on_cpu, temporary, metadata=text)


def check_writable(folder: str | os.PathLike) -> None:
    """Make `folder` and see that a file can be written there, so that a job fails before its work rather than after.

    Raises: OSError with the folder in its message.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write to {folder}: {error.strerror or error}") from error


def remove_leftovers(path: str | os.PathLike) -> None:
    """Remove what killed processes have left of their writes to `path`; what is being written now stays."""
    path = Path(path)
    ours = re.compile(
        rf"\.{re.escape(path.name)}\.(?P<host>[0-9a-f]{{4}})-(?P<pid>[0-9a-f]+)-[0-9a-f]{{8}}"
        rf"|\.{re.escape(path.stem)}\.[0-9a-f]{{8}}{re.escape(path.suffix)}"  # of earlier versions
    )
    with suppress(OSError):
        for entry in os.scandir(path.parent):
            if (match := ours.fullmatch(entry.name)) and _is_abandoned(match, entry):
                shutil.rmtree(entry.path, ignore_errors=True) if entry.is_dir() else os.unlink(entry.path)


def _is_abandoned(match: re.Match, entry: os.DirEntry) -> bool:
    """Whether no process writes there any more: its own has ended, or all is old."""
    if match["host"] == _HERE and os.name == "posix":  # elsewhere a process cannot be asked for without harm
        try:
            os.kill(int(match["pid"], 16), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
    return time.time() - entry.stat().st_mtime > STALE


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk as well; systems that cannot open a folder (Windows) do that by themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

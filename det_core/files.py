"""Files that are either whole or not there: every write of the project goes through `atomic_write`."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes the name `path`, on any error it is removed.

    The temporary file keeps the suffix of `path`, since many writers choose their format by it. Missing parent
    folders are made. The earlier file, if any, stays as it was until the new one is safely on the disk.

        with atomic_write("adapter.safetensors") as temporary:
            save_file(tensors, temporary)

    Raises: OSError with the path in its message if the folder cannot be written to or the disk is full. Any other
        exception of the body passes through unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:  # fails here, before any work, where the folder cannot be written to
            mode = os.fstat(file.fileno()).st_mode
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
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
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk as well; systems that cannot open a folder (Windows) do that by themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

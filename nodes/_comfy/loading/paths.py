"""Where files are: the det_adapters folder, the DiTs that can be loaded, and names that cannot leave their folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from itertools import count
from pathlib import Path

import folder_paths

from ....det_core.files import check_name, is_hidden, natural

ADAPTERS = "det_adapters"
CONDITIONINGS = "det_conditionings"
MOTIONS = "det_motions"
LORAS = "loras"
STATE_SUFFIX = ".state.safetensors"  # a training state lies beside its adapter and is not listed as one
DIFFUSERS_PREFIX = "diffusers/"


def register_folders() -> None:
    """Make our folders of models known to ComfyUI, after those of extra_model_paths.yaml, for .safetensors files
    only."""
    for key in (ADAPTERS, CONDITIONINGS, MOTIONS):
        default = os.path.join(folder_paths.models_dir, key)
        folder_paths.add_model_folder_path(key, default, is_default=False)
        paths, _ = folder_paths.folder_names_and_paths[key]
        folder_paths.folder_names_and_paths[key] = (paths, {".safetensors"})
        with suppress(OSError):  # models may be read-only; what is saved makes its folder, or says why it cannot
            os.makedirs(default, exist_ok=True)


def adapter_names() -> list[str]:
    """The adapters that the loader offers."""
    return sorted((name for name in _listed(ADAPTERS) if not name.endswith(STATE_SUFFIX)), key=natural)


def adapter_paths() -> dict[str, Path]:
    """The files of all adapters that the loader offers, by name; without links that lead nowhere."""
    found = {name: folder_paths.get_full_path(ADAPTERS, name) for name in adapter_names()}
    return {name: Path(path) for name, path in found.items() if path is not None}


def adapter_path(name: str) -> Path:
    """The file of an adapter that the loader offered. Raises ValueError for anything else."""
    return _offered(ADAPTERS, "adapter", name, adapter_names(), ", or save one with Save Motion Adapter")


def stamp(path: Path) -> str:
    """What changes when a loaded file does: a loader's answer to `fingerprint_inputs`."""
    return f"{path}:{path.stat().st_mtime_ns}"


def _listed(kind: str) -> list[str]:
    """The files of models/`kind`, newest included, without hidden ones."""
    folder_paths.filename_list_cache.pop(kind, None)
    return [name for name in folder_paths.get_filename_list(kind) if not is_hidden(name)]


def _offered(kind: str, what: str, name: str, names: list[str], otherwise: str = "") -> Path:
    listed = next((listed for listed in names if _posix(listed) == _posix(name)), None)
    if listed is None:
        raise ValueError(f"there is no {what} {name!r} in models/{kind}: press R to refresh the list{otherwise}")
    return Path(folder_paths.get_full_path_or_raise(kind, listed))


def _posix(name: str) -> str:
    """A name in one spelling: ComfyUI lists files in folders as a\\b on Windows, we write a/b."""
    return name.replace("\\", "/")


def safe_name(name: str, kind: str = ADAPTERS) -> str:
    """`name` if a file of models/`kind` can be called that; otherwise ValueError, see `check_name`."""
    try:
        return check_name(name)
    except ValueError as error:
        raise ValueError(f"{error} of models/{kind}") from None


def name_is_safe(name: str, kind: str = ADAPTERS) -> bool | str:
    """True, or what is wrong with `name`: the answer of a node's `validate_inputs`."""
    try:
        safe_name(name, kind)
    except ValueError as error:
        return str(error)
    return True


def folder_of(kind: str) -> Path:
    """Where new files of a kind (`ADAPTERS`, `LORAS`) are written."""
    return Path(folder_paths.get_folder_paths(kind)[0])


def numbered_paths(kind: str, name: str) -> Iterator[Path]:
    """Where a file called `name` goes, and where it goes if that is taken: a number is added."""
    folder, clean = folder_of(kind), safe_name(name, kind)
    yield folder / f"{clean}.safetensors"
    for number in count(2):
        yield folder / f"{clean}-{number}.safetensors"


def taken_paths(kind: str, name: str) -> list[Path]:
    """The files called `name`, with a number or without, in their order; a number in between may be free."""
    plain = next(numbered_paths(kind, name))
    found = plain.parent.glob(f"{escape(plain.stem)}*.safetensors")
    taken = (path for path in found if re.fullmatch(r"(-[0-9]+)?", path.stem[len(plain.stem) :]))
    return sorted(taken, key=lambda path: natural(path.stem))


def shown_name(kind: str, path: Path) -> str:
    """The name of a file as the loaders list it."""
    return path.relative_to(folder_of(kind)).as_posix()


def state_path(stem: str) -> Path:
    """Where a training state lies. `stem`: a `safe_name` of a run and what is added to it."""
    return folder_of(ADAPTERS) / f"{stem}{STATE_SUFFIX}"


def conditioning_names() -> list[str]:
    """The encoded prompts that the loader offers."""
    return _listed(CONDITIONINGS)


def conditioning_path(name: str) -> Path:
    """The file of an encoded prompt that the loader offered. Raises: ValueError for anything else."""
    return _offered(CONDITIONINGS, "conditioning", name, conditioning_names())


def motion_names() -> list[str]:
    """The motions that the loader offers."""
    return _listed(MOTIONS)


def motion_path(name: str) -> Path:
    """The file of a motion that the loader offered. Raises: ValueError for anything else."""
    return _offered(MOTIONS, "motion", name, motion_names(), ", or save one with Save Motion")


def dit_names() -> list[str]:
    """Files of models/diffusion_models, then `diffusers/<folder>` for every transformer under models/diffusers."""
    return [*folder_paths.get_filename_list("diffusion_models"), *sorted(_diffusers_folders())]


def dit_path(name: str) -> Path:
    """The file or the transformer's folder behind a name of `dit_names`."""
    if name in folder_paths.get_filename_list("diffusion_models"):
        return Path(folder_paths.get_full_path_or_raise("diffusion_models", name))
    folders = _diffusers_folders()
    if name not in folders:
        raise ValueError(f"there is no model {name!r}: press R to refresh the list")
    return folders[name]


def _diffusers_folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for search in folder_paths.get_folder_paths("diffusers"):
        for root, folders, files in os.walk(search, followlinks=True):
            if "config.json" not in files:
                continue
            folders.clear()
            path = Path(root)
            if any(kind in _class_name(path / "config.json") for kind in ("Transformer3DModel", "StepVideoModel")):
                shown = path.parent if path.name == "transformer" else path
                found.setdefault(DIFFUSERS_PREFIX + shown.relative_to(search).as_posix(), path)
    return found


def stepvideo_folders() -> dict[str, Path]:
    """Published folders of Step-Video-T2V under models/diffusers and models/text_encoders that hold text encoders."""
    found: dict[str, Path] = {}
    for search in [p for key in ("diffusers", "text_encoders") for p in folder_paths.get_folder_paths(key)]:
        for path in sorted(Path(search).glob("*/step_llm")):
            found.setdefault(path.parent.name, path.parent)
    return found


def stepvideo_vaes() -> dict[str, Path]:
    """Files of models/vae, then the VAE in every published folder of Step-Video-T2V under models/diffusers."""
    paths = {name: folder_paths.get_full_path("vae", name) for name in folder_paths.get_filename_list("vae")}
    found = {name: Path(path) for name, path in paths.items() if path is not None}  # None: a link that leads nowhere
    for search in folder_paths.get_folder_paths("diffusers"):
        for path in sorted(Path(search).glob("*/vae/vae*.safetensors")):
            found.setdefault(DIFFUSERS_PREFIX + path.relative_to(search).as_posix(), path)
    return found


def chosen(found: dict[str, Path], name: str) -> Path:
    """The path behind a name that a loader offered. Raises: ValueError for anything else."""
    if name not in found:
        raise ValueError(f"there is no {name!r}: press R to refresh the list")
    return found[name]


def _class_name(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("_class_name", ""))
    except (OSError, ValueError):
        return ""

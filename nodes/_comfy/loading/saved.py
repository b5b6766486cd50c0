"""A node that writes a file writes it once: what lies under that name already is found again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from comfy_api.latest import io

from ....det_core.files import open_tensors
from ....det_core.media.card import THUMBNAIL, TITLE
from ..display.notice import say
from . import paths

logger = logging.getLogger(__name__)

LOOKS = (THUMBNAIL, TITLE)  # metadata for which no file is written anew
STRUCTURE = ("format", "format_version", "method", "num_blocks", "dim", "mid_dim", "kernel_size")  # the writers' own


def save_once(
    kind: str,
    name: str,
    overwrite: bool,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    write: Callable[[Path], object],
    more: str = "",
) -> io.NodeOutput:
    """Let `write` make a file of models/`kind`, and give its name as the loaders list it; where it is, and `more`,
    stands on the node.

    Without `overwrite` a name that is taken gets a number, unless one of the files with that name and a number holds
    `tensors` and says `metadata` already: nothing is written then, and that file is named.
    """
    earlier = [] if overwrite else paths.taken_paths(kind, name)
    path = next((path for path in earlier if _holds(path, tensors, metadata)), None)
    if path is not None:
        shown = paths.shown_name(kind, path)
        text = f"models/{kind}/{shown} holds this already: nothing was written"
        logger.info("already there: %s", path)
    else:
        path = next(path for path in paths.numbered_paths(kind, name) if overwrite or not path.exists())
        write(path)
        shown = paths.shown_name(kind, path)
        text = f"models/{kind}/{shown}{more}"
        logger.info("saved: %s%s", path, more)
    say(text)
    return io.NodeOutput(shown, ui={"text": [text]})


def _holds(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bool:
    """Whether a file holds these tensors, to the bit, and says this and no more; what it says is compared first."""
    try:
        with open_tensors(path) as file:
            if set(file.keys()) != set(tensors) or _words(file.metadata() or {}) != _words(metadata):
                return False
            return all(_same(file.get_tensor(key), tensor) for key, tensor in tensors.items())
    except ValueError:  # damaged, or something else
        return False


def _words(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in metadata.items() if key not in LOOKS + STRUCTURE}


def _same(stored: torch.Tensor, tensor: torch.Tensor) -> bool:
    return stored.dtype == tensor.dtype and torch.equal(stored, tensor.detach().cpu())

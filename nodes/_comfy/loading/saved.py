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
    path = next(
        path
        for path in paths.numbered_paths(kind, name)
        if overwrite or not path.exists() or _holds(path, tensors, metadata)
    )
    shown = paths.shown_name(kind, path)
    if path.exists() and not overwrite:
        text = f"models/{kind}/{shown} holds this already: nothing was written"
    else:
        write(path)
        text = f"models/{kind}/{shown}{more}"
    logger.info("%s", text)
    say(text)
    return io.NodeOutput(shown, ui={"text": [text]})


def _holds(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bool:
    """Whether a file holds these tensors, to the bit, and says this; what it says is compared first."""
    try:
        with open_tensors(path) as file:
            told = file.metadata() or {}
            if set(file.keys()) != set(tensors):
                return False
            if any(told.get(key) != text for key, text in metadata.items() if key not in LOOKS):
                return False
            return all(_same(file.get_tensor(key), tensor) for key, tensor in tensors.items())
    except ValueError:  # damaged, or something else
        return False


def _same(stored: torch.Tensor, tensor: torch.Tensor) -> bool:
    return stored.dtype == tensor.dtype and torch.equal(stored, tensor.detach().cpu())

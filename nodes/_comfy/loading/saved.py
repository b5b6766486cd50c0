"""What a node gives that has written a file."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_api.latest import io

from ..display.notice import say
from . import paths

logger = logging.getLogger(__name__)


def saved(kind: str, path: Path, more: str = "") -> io.NodeOutput:
    """The name of a file of models/`kind` as the loaders list it; where it is, and `more`, stands on the node."""
    shown = paths.shown_name(kind, path)
    text = f"models/{kind}/{shown}{more}"
    logger.info("saved: %s", path)
    say(text)
    return io.NodeOutput(shown, ui={"text": [text]})

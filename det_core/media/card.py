"""The card of a motion: what programs show of its file without loading it, a picture of its source and some words.

It is metadata under the keys of ModelSpec 1.0.1 (https://github.com/Stability-AI/ModelSpec), which ComfyUI's model
library reads, too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from .video import as_uint8

THUMBNAIL, TITLE, DESCRIPTION, LICENSE, TAGS = (
    f"modelspec.{key}" for key in ("thumbnail", "title", "description", "license", "tags")
)
FRAMES, HEIGHT = 5, 128  # pictures side by side; px of each
PREFIX = "data:image/jpeg;base64,"
LONGEST = 200_000  # characters of a picture that is read; one that is written has some 20,000


def card(frames: torch.Tensor | None, *, title: str = "", description: str = "", license: str = "") -> dict[str, str]:
    """Metadata that shows `frames`, (T, H, W, 3) uint8 or float in [0, 1], best with the tracks drawn on them: five of
    them, the first and the last among them. Words that are empty are left out, and the picture of None."""
    words = {TITLE: title, DESCRIPTION: description, LICENSE: license, TAGS: "motion"}
    picture = {} if frames is None else {THUMBNAIL: _strip(frames)}
    return picture | {key: text for key, text in words.items() if text}


def _strip(frames: torch.Tensor) -> str:
    picked = as_uint8(frames[torch.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().long()]).cpu()
    width = max(1, round(picked.shape[2] * HEIGHT / picked.shape[1]))
    strip = Image.new("RGB", (len(picked) * width, HEIGHT))
    for i, frame in enumerate(picked):
        strip.paste(Image.fromarray(np.asarray(frame)).resize((width, HEIGHT)), (i * width, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=80)
    return PREFIX + base64.b64encode(data.getvalue()).decode("ascii")


def picture_of(metadata: Mapping[str, str]) -> Image.Image | None:
    """The picture of a file's card, None where there is none that can be read."""
    url = metadata.get(THUMBNAIL, "")
    if not url.startswith(PREFIX) or len(url) > LONGEST:
        return None
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(url[len(PREFIX) :], validate=True)), formats=["JPEG"])
        return picture.convert("RGB") if picture.width <= 64 * HEIGHT and picture.height <= 8 * HEIGHT else None
    except (ValueError, OSError, SyntaxError):  # of base64, of Pillow
        return None

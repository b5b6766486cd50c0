"""Masks on disk: which part of a picture somebody has painted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

NEARLY_ALL = 0.9  # share of the picture from which a mask is probably painted the wrong way round
BLACK, WHITE = 31, 224  # up to, and from: what counts as plain black and plain white


def read_mask(path: str | os.PathLike, height: int, width: int) -> torch.Tensor:
    """The subject's mask in the first frame: a picture, or a folder whose first .png is taken.

    Grey above half of full white is subject. Of a palette picture (as DAVIS has) every entry but the first is, unless
    its colours are black and white. Of a picture with transparent parts the white that is seen is, where nothing but
    black and white is seen. A mask of another size is resized (nearest) with a warning.

    Returns: (height, width) bool.
    Raises: ValueError, one line with the path: no such file, not a picture, transparent in a way that says nothing, or
        nothing white in it.
    """
    path = _picture(Path(path))
    try:
        with Image.open(path) as image:
            inside = _painted(ImageOps.exif_transpose(image), path)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture that can be read: give the mask as .png") from error
    mask = torch.from_numpy(inside)
    if mask.shape != (height, width):
        log.warning("the mask %s is %dx%d, the video %dx%d: resized", path, mask.shape[1], mask.shape[0], width, height)
        mask = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0] > 0.5
    if not mask.any():
        raise ValueError(f"the mask {path} is empty: nothing in it is white; paint the moving subject white")
    if (share := mask.float().mean().item()) >= NEARLY_ALL:
        log.warning(
            "the mask %s takes %.0f%% of the picture as the subject: if it is the wrong way round, invert it (the "
            "subject is white)",
            path,
            100 * share,
        )
    return mask


def _picture(path: Path) -> Path:
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png" and not p.name.startswith("."))
        if not pictures:
            raise ValueError(f"the mask folder {path} has no .png in it")
        path = pictures[0]
    if not path.is_file():
        raise ValueError(f"no such mask: {path}")
    return path


def _painted(image: Image.Image, path: Path) -> np.ndarray:
    """(height, width) bool."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        seen = np.array(image.convert("RGBA"))
        if seen[..., 3].min() <= 127:
            return _seen_white(seen, path)
    if image.mode in ("P", "PA"):
        entries = np.array(image.convert("P") if image.mode == "PA" else image)
        colours = np.array(image.convert("RGB"))
        return _is_white(colours) if _is_black_and_white(colours) else entries != 0
    if image.mode.startswith("I"):
        return np.array(image).astype(np.int64) > 32767
    if image.mode == "F":
        values = np.array(image)
        return values > (0.5 if values.max() <= 1 else 127)
    return np.array(image.convert("L")) > 127


def _seen_white(picture: np.ndarray, path: Path) -> np.ndarray:
    """Of RGBA with transparent parts. White paint over nothing is a mask; a photograph with a hole, or cut out, may
    mean either side."""
    colours, seen = picture[..., :3], picture[..., 3] > 127
    if not seen.any() or not _is_plain(colours[seen]).all():
        raise ValueError(
            f"the mask {path} has transparent parts (an alpha channel) and colours: it does not say which part is the "
            "subject; save it without alpha, the subject white on black"
        )
    return seen & _is_white(colours)


def _is_white(colours: np.ndarray) -> np.ndarray:
    return colours.min(-1) > 127


def _is_plain(colours: np.ndarray) -> np.ndarray:
    return (colours.max(-1) <= BLACK) | (colours.min(-1) >= WHITE)


def _is_black_and_white(colours: np.ndarray) -> bool:
    """Whether the picture has both, and nothing else."""
    white = colours.min(-1) >= WHITE
    return bool(_is_plain(colours).all() and white.any() and not white.all())

"""What says where the subject is in the first frame: a mask, boxes, or clicks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from .checked import first_mask

if TYPE_CHECKING:
    from ....det_core.tracking.pointed import Box, Click


def subject_mask(
    video: torch.Tensor, mask: torch.Tensor | None, boxes: list[Box], clicks: list[Click]
) -> torch.Tensor | None:
    """The subject in the first frame of `video` (T, H, W, 3) as a mask (H, W), None where nothing says where it is.
    A mask counts before boxes and clicks."""
    size = video.shape[1:3]
    if mask is not None:
        mask = first_mask(mask)
        if mask.shape == size:
            return mask
        return torch.nn.functional.interpolate(mask[None, None], tuple(size), mode="nearest")[0, 0]
    if not boxes and not clicks:
        return None
    from ....det_core.tracking.foreground import foreground_mask  # these need OpenCV
    from ....det_core.tracking.pointed import in_boxes, under_clicks

    moving = foreground_mask(video)
    found = in_boxes(moving, boxes) if boxes else torch.zeros_like(moving)
    return found | under_clicks(moving, clicks) if clicks else found


def boxes_of(value: Any) -> list[Box]:
    """BOUNDING_BOX as boxes in pixels: one, several, or a list for each frame, of which the first frame's count.

    Raises: ValueError for anything else.
    """
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    boxes = [value] if isinstance(value, dict) else value or []
    try:
        return [(b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in boxes]
    except (KeyError, TypeError):
        raise ValueError("this is no bounding box: it needs x, y, width and height in pixels") from None


def clicks_of(text: str | None) -> list[Click]:
    """The JSON of a points editor, [{"x": ..., "y": ...}, ...], as points in pixels. Raises: ValueError for anything
    else."""
    if not (text or "").strip():
        return []
    try:
        return [(float(point["x"]), float(point["y"])) for point in json.loads(text)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f'clicks are JSON as [{{"x": 40, "y": 60}}], in pixels; got {text[:60]!r}') from None

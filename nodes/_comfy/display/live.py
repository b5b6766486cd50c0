"""The picture of a training at work, readable at a node's width: its loss, and samples under the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw

from ....det_core.media.video import as_uint8
from ....det_core.tracking.curve import loss_curve
from ....det_core.tracking.look import Look, font

WIDTH = 620  # px, of all below: twice the width of a node in the templates
HEAD, CURVE, LARGE, SMALL = 56, 250, 40, 22  # heights of the two parts, sizes of their type
LABELS, GAP = 92, 4  # room for the names of the rows, between pictures

Row = tuple[str, torch.Tensor]  # a name, and frames (T, H, W, 3) in [0, 1]


def live_picture(
    losses: Mapping[str, Sequence[float]], words: Sequence[str], rows: Sequence[Row], look: Look
) -> Image.Image:
    """words: one to be read from afar, and some beside it. rows: videos of one size."""
    strips = [_strip(row, look) for row in rows]
    picture = Image.new("RGB", (WIDTH, HEAD + CURVE + sum(strip.height + GAP for strip in strips)), look.paper)
    pen, (first, *others) = ImageDraw.Draw(picture), words
    pen.text((12, HEAD - 10), first, fill=look.ink, font=font(LARGE), anchor="ls")
    pen.text((WIDTH - 12, HEAD - 10), "   ".join(others), fill=look.ink, font=font(SMALL), anchor="rs")
    picture.paste(loss_curve(losses, WIDTH, CURVE, look=look, type_px=SMALL), (0, HEAD))
    top = HEAD + CURVE
    for strip in strips:
        picture.paste(strip, (0, top + GAP))
        top += strip.height + GAP
    return picture


def some_frames(frames: torch.Tensor) -> torch.Tensor:
    """Of a video (..., H, W, 3) those that a row has room for, the first and the last among them, on the CPU."""
    frames = frames.reshape(-1, *frames.shape[-3:])
    ratio = frames.shape[-2] / frames.shape[-3]
    count = 3 if ratio > 1.4 else 5 if ratio > 0.8 else 6
    return frames[torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long()].float().cpu()


def _strip(row: Row, look: Look) -> Image.Image:
    """A row: its name, one word a line, and its frames."""
    name, frames = row
    width = (WIDTH - LABELS) // len(frames) - GAP
    height = max(1, round(width * frames.shape[1] / frames.shape[2]))
    how = Image.Resampling.LANCZOS if frames.shape[2] >= width else Image.Resampling.NEAREST
    strip = Image.new("RGB", (WIDTH, height), look.paper)
    ImageDraw.Draw(strip).text((12, 4), name.replace(" ", "\n"), fill=look.ink, font=font(SMALL))
    for column, frame in enumerate(as_uint8(frames)):
        strip.paste(Image.fromarray(frame.numpy()).resize((width, height), how), (LABELS + column * (width + GAP), 0))
    return strip

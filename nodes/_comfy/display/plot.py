"""The picture of Evaluate Motion: both sets of tracks over the frame, the generated ones coloured by their score."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ....det_core.metrics.motion import MotionScore
from ....det_core.tracking.tracks import Tracks

SHORT_SIDE = 512  # pixels of the plot
SOURCE = (70, 130, 255)
MOST = 32  # tracks drawn of each kind; more hide each other


def motion_plot(
    source: Tracks, generated: Tracks, score: MotionScore | None, frame: torch.Tensor | None, size: tuple[int, int]
) -> Image.Image:
    """score: None draws the generated tracks grey. frame: (H, W, 3) in [0, 1] to draw on, or None. size: (width,
    height) of the video."""
    factor = SHORT_SIDE / min(size)
    width, height = round(size[0] * factor), round(size[1] * factor)
    canvas = Image.new("RGB", (width, height), (24, 24, 24))
    if frame is not None:
        picture = Image.fromarray((frame.clamp(0, 1).numpy() * 255).astype(np.uint8)).resize((width, height))
        canvas = Image.blend(canvas, picture, 0.55)
    draw = ImageDraw.Draw(canvas)
    line = max(1, SHORT_SIDE // 256)
    for track in _some(len(source)):
        _path(draw, source, track, SOURCE, width, height, line)
    for track in _some(len(generated)):
        value = score.per_track[track].item() if score and track < len(score.per_track) else float("nan")
        _path(draw, generated, track, score_colour(value), width, height, line)
    sheet = Image.new("RGB", (width, height + 56), "white")
    sheet.paste(canvas, (0, 0))
    known = f"{score.score:.3f}" if score else "not measured"
    text, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    text.text((8, height + 4), f"motion fidelity {known}", fill="black", font=font)
    small = ImageFont.load_default(14)
    text.text((8, height + 32), "source", fill=SOURCE, font=small)
    text.text((70, height + 32), "generated: per track from", fill="black", font=small)
    for i, value in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        text.rectangle((250 + 44 * i, height + 32, 290 + 44 * i, height + 50), fill=score_colour(value))
        text.text((254 + 44 * i, height + 33), f"{value:g}", fill="black", font=small)
    return sheet


def _some(count: int) -> list[int]:
    return list(range(count)) if count <= MOST else [round(i * (count - 1) / (MOST - 1)) for i in range(MOST)]


def score_colour(value: float) -> tuple[int, int, int]:
    """Red (0) over yellow to green (1); grey where there is no score."""
    if value != value:
        return 160, 160, 160
    value = min(1.0, max(0.0, value))
    return round(255 * min(1.0, 2 - 2 * value)), round(220 * min(1.0, 2 * value)), 60


def _path(
    draw: ImageDraw.ImageDraw,
    tracks: Tracks,
    index: int,
    colour: tuple[int, int, int],
    width: int,
    height: int,
    line: int,
) -> None:
    points = [(x * width, y * height) for x, y in tracks.points[index].tolist()]
    seen = tracks.visible[index].tolist()
    for a, b, both in zip(points, points[1:], (p and q for p, q in zip(seen, seen[1:], strict=False)), strict=False):
        if both:
            draw.line((*a, *b), fill=colour, width=line)
    x, y = points[-1]
    draw.ellipse((x - 2 * line, y - 2 * line, x + 2 * line, y + 2 * line), fill=colour)

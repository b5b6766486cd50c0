"""Pictures to look at: tracks on a video, contact sheets, videos side by side. Pillow only."""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..media.video import as_uint8
from .look import LIGHT, font
from .tracks import Tracks

READABLE_SIDE_PX = 256  # smaller pictures are enlarged before anything is drawn on them
TRAIL_FRAMES = 12  # length of a point's tail
HIDDEN = (170, 170, 170)


def draw_tracks(frames: torch.Tensor, tracks: Tracks) -> torch.Tensor:
    """Points with fading tails on every frame; a hidden point is a grey ring without one, as long as its tail would be
    (where the tracks do not say in which frames their points were chosen: always).

    Each point keeps one colour, chosen by where it starts, so neighbours look alike.

    Args: frames (T, H, W, 3) RGB, uint8 or float in [0, 1]; tracks over the same T frames.
    Returns: (T, H', W', 3) uint8; a picture whose short side is below 256 px is enlarged by a whole factor.
    Raises: ValueError if the numbers of frames differ.
    """
    if len(frames) != tracks.frames:
        raise ValueError(f"these tracks have {tracks.frames} frames, the video {len(frames)}: track this video again")
    pictures = [_readable(frame) for frame in as_uint8(frames).cpu()]
    width, height = pictures[0].size
    points = (tracks.points.cpu() * torch.tensor([width, height])).numpy()
    visible, colours = tracks.visible.cpu().numpy(), _colours(tracks)
    size = max(1.0, min(width, height) / 160)
    drawn = []
    for frame, picture in enumerate(pictures):
        layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        pen = ImageDraw.Draw(layer)
        for age in range(min(TRAIL_FRAMES, frame), 0, -1):  # oldest first, so that the newest lies on top
            before, after = frame - age, frame - age + 1
            strength = round(255 * (1 - age / (TRAIL_FRAMES + 1)))
            for n in np.flatnonzero(visible[:, before] & visible[:, after] & visible[:, frame]):
                ends = [tuple(points[n, before]), tuple(points[n, after])]
                pen.line(ends, fill=(*colours[n], strength), width=max(1, round(size)))
        lately = visible[:, max(0, frame - TRAIL_FRAMES) : frame].any(1)
        for n in np.argsort(visible[:, frame], kind="stable"):  # hidden ones below
            if visible[n, frame]:
                pen.ellipse(_box(points[n, frame], 1.4 * size), fill=(*colours[n], 255), outline=(0, 0, 0, 160))
            elif lately[n] or tracks.query_frames is None:
                pen.ellipse(_box(points[n, frame], 1.1 * size), outline=(*HIDDEN, 200))
        drawn.append(np.array(Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")))
    return torch.from_numpy(np.stack(drawn))


def contact_sheet(rows: Sequence[tuple[str, torch.Tensor]], columns: int = 6, cell_width: int = 192) -> Image.Image:
    """Evenly spaced frames of several videos, one labelled row each.

    Args:
        rows: (label, frames (T, H, W, 3) uint8 or float in [0, 1]); sizes and lengths may differ; long labels wrap.
        columns: frames a row, the first and the last among them; a shorter video shows all it has.
        cell_width: px of one frame on the sheet.
    Raises: ValueError if there is no row.
    """
    if not rows:
        raise ValueError("a contact sheet needs one video or more")
    gap, letters = 6, font(max(13, cell_width // 12))
    line = letters.getbbox("Ag")[3] + 4
    width = columns * (cell_width + gap) + gap
    strips, total = [], gap
    for label, frames in rows:
        picked = torch.linspace(0, len(frames) - 1, min(columns, len(frames))).round().long()
        cells = [_cell(frame, cell_width) for frame in as_uint8(frames[picked]).cpu()]
        lines = _wrapped(label, letters, width - 2 * gap)
        strips.append((total, lines, cells))
        total += len(lines) * line + cells[0].size[1] + 2 * gap
    sheet = Image.new("RGB", (width, total), LIGHT.paper)
    pen = ImageDraw.Draw(sheet)
    for top, lines, cells in strips:
        for number, text in enumerate(lines):
            pen.text((gap, top + number * line), text, fill=LIGHT.ink, font=letters)
        for column, cell in enumerate(cells):
            sheet.paste(cell, (gap + column * (cell_width + gap), top + len(lines) * line))
    return sheet


def side_by_side(videos: Sequence[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """Several videos in one, each under its label, for as long as the shortest lasts.

    Args: videos: (label, frames (T, H, W, 3) uint8 or float in [0, 1]); all get the height of the tallest.
    Returns: (T, H', W', 3) uint8; pictures whose short side is below 256 px are enlarged by a whole factor.
    Raises: ValueError if there is no video.
    """
    if not videos:
        raise ValueError("nothing to put side by side: give one video or more")
    shown = [[_readable(frame) for frame in as_uint8(frames).cpu()] for _, frames in videos]
    height, gap = max(frames[0].height for frames in shown), 4
    widths = [round(frames[0].width * height / frames[0].height) for frames in shown]
    letters = font(max(14, height // 20))
    top = letters.getbbox("Ag")[3] + 6
    joined = []
    for pictures in zip(*shown, strict=False):
        sheet = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), top + height), LIGHT.ink)
        pen, left = ImageDraw.Draw(sheet), 0
        for (label, _), picture, width in zip(videos, pictures, widths, strict=True):
            pen.text((left + 6, 2), label, fill=LIGHT.paper, font=letters)
            sheet.paste(picture if picture.size == (width, height) else picture.resize((width, height)), (left, top))
            left += width + gap
        joined.append(np.array(sheet))
    return torch.from_numpy(np.stack(joined))


def _readable(frame: torch.Tensor) -> Image.Image:
    """(H, W, 3) uint8 as a picture, its pixels repeated until the short side has 256 px."""
    factor = -(-READABLE_SIDE_PX // min(frame.shape[:2]))
    if factor > 1:
        frame = frame.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
    return Image.fromarray(frame.contiguous().numpy())


def _cell(frame: torch.Tensor, width: int) -> Image.Image:
    height = max(1, round(width * frame.shape[0] / frame.shape[1]))
    smaller = frame.shape[1] >= width
    picture = Image.fromarray(frame.contiguous().numpy())
    return picture.resize((width, height), Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)


def _colours(tracks: Tracks) -> list[tuple[int, int, int]]:
    """Hue from the direction in which a point lies from the middle of all points at its first visible frame."""
    first = tracks.visible.cpu().int().argmax(dim=1)
    start = tracks.points.cpu()[torch.arange(len(tracks)), first]
    offset = start - start.mean(dim=0)
    hues = torch.atan2(offset[:, 1], offset[:, 0]).div(2 * math.pi).remainder(1).tolist()
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 1.0)) for hue in hues]


def _box(centre: np.ndarray, radius: float) -> tuple[float, float, float, float]:
    x, y = float(centre[0]), float(centre[1])
    return x - radius, y - radius, x + radius, y + radius


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines, current = [], ""
    for word in text.split() or [""]:
        longer = f"{current} {word}".strip()
        if current and font.getlength(longer) > width:
            lines.append(current)
            current = word
        else:
            current = longer
    return [*lines, current]

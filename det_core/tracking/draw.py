"""Pictures to look at: tracks on a video, loss curves, contact sheets. Pillow only."""

import colorsys
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..media.video import as_uint8
from .tracks import Tracks

READABLE_SIDE_PX = 256  # smaller pictures are enlarged before anything is drawn on them
TRAIL_FRAMES = 12  # length of a point's tail
HIDDEN = (170, 170, 170)
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (222, 222, 222)
LINES = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))


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


def loss_curve(losses: Mapping[str, Sequence[float]], width: int = 720, height: int = 400) -> Image.Image:
    """Losses over steps, one line a term: every value faint, their running mean strong, the last mean in the legend.

    The axis is logarithmic where the values span more than a factor of 30 and all are positive. Values that are NaN or
    infinite leave a gap. Terms need not have the same number of steps; no steps at all give empty axes.
    """
    picture = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(picture), _font(max(11, height // 28))
    line = font.getbbox("0")[3] + 5
    values = [float(v) for term in losses.values() for v in term if math.isfinite(v)]
    steps = max((len(term) for term in losses.values()), default=0)
    low, high, logarithmic = _value_range(values)
    ticks = _log_ticks(low, high) if logarithmic else _ticks(low, high)
    names = [f"{tick:g}" for tick in ticks]
    left = 14 + max(round(font.getlength(name)) for name in names)
    right, top, bottom = width - 14, line + 8, height - 2 * line - 4

    def x(step: float) -> float:
        return left + (right - left) * (step - 1) / max(steps - 1, 1)

    def y(value: float) -> float:
        low_, high_, value_ = (math.log(v) if logarithmic else v for v in (low, high, value))
        return bottom - (bottom - top) * (value_ - low_) / (high_ - low_)

    for tick, name in zip(ticks, names, strict=True):
        pen.line([(left, y(tick)), (right, y(tick))], fill=FAINT)
        pen.text((left - 6, y(tick)), name, fill=INK, font=font, anchor="rm")
    for step in sorted({round(tick) for tick in _ticks(1, max(steps, 2)) if 1 <= tick <= max(steps, 2)}):
        pen.line([(x(step), bottom), (x(step), bottom + 4)], fill=INK)
        pen.text((x(step), bottom + 6), str(step), fill=INK, font=font, anchor="mt")
    pen.line([(left, top), (left, bottom), (right, bottom)], fill=INK)
    pen.text(((left + right) / 2, height - 3), "step", fill=INK, font=font, anchor="mb")
    at = left
    for (name, term), colour in zip(losses.items(), _line_colours(losses), strict=True):
        mean = _running_mean(term)
        pale = tuple((c + 2 * 255) // 3 for c in colour)
        _polyline(pen, [(x(i + 1), y(v)) if math.isfinite(v) else None for i, v in enumerate(term)], pale, 1)
        _polyline(pen, [(x(i + 1), y(v)) if v is not None else None for i, v in enumerate(mean)], colour, 2)
        last = next((v for v in reversed(mean) if v is not None), None)
        label = name if last is None else f"{name} {last:.4g}"
        pen.text((at, 4), label, fill=colour, font=font)
        at += font.getlength(label) + 24
    return picture


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
    gap, font = 6, _font(max(13, cell_width // 12))
    line = font.getbbox("Ag")[3] + 4
    width = columns * (cell_width + gap) + gap
    strips, total = [], gap
    for label, frames in rows:
        picked = torch.linspace(0, len(frames) - 1, min(columns, len(frames))).round().long()
        cells = [_cell(frame, cell_width) for frame in as_uint8(frames[picked]).cpu()]
        lines = _wrapped(label, font, width - 2 * gap)
        strips.append((total, lines, cells))
        total += len(lines) * line + cells[0].size[1] + 2 * gap
    sheet = Image.new("RGB", (width, total), PAPER)
    pen = ImageDraw.Draw(sheet)
    for top, lines, cells in strips:
        for number, text in enumerate(lines):
            pen.text((gap, top + number * line), text, fill=INK, font=font)
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
    font = _font(max(14, height // 20))
    top = font.getbbox("Ag")[3] + 6
    joined = []
    for pictures in zip(*shown, strict=False):
        sheet = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), top + height), INK)
        pen, left = ImageDraw.Draw(sheet), 0
        for (label, _), picture, width in zip(videos, pictures, widths, strict=True):
            pen.text((left + 6, 2), label, fill=PAPER, font=font)
            sheet.paste(picture if picture.size == (width, height) else picture.resize((width, height)), (left, top))
            left += width + gap
        joined.append(np.array(sheet))
    return torch.from_numpy(np.stack(joined))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


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


def _line_colours(names: Mapping) -> list[tuple[int, int, int]]:
    return [LINES[i % len(LINES)] for i in range(len(names))]


def _box(centre: np.ndarray, radius: float) -> tuple[float, float, float, float]:
    x, y = float(centre[0]), float(centre[1])
    return x - radius, y - radius, x + radius, y + radius


def _polyline(pen: ImageDraw.ImageDraw, points: list, colour: tuple[int, ...], width: int) -> None:
    """Lines through points, broken where one is None; a point alone is a dot."""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) == 1:
            pen.ellipse(_box(np.array(run[0]), width), fill=colour)
        elif run:
            pen.line(run, fill=colour, width=width, joint="curve")
        run = []


def _running_mean(term: Sequence[float]) -> list[float | None]:
    """Mean of the last tenth of the steps so far (1 to 50 of them), finite values only."""
    span = min(50, max(1, len(term) // 10))
    means: list[float | None] = []
    for i, value in enumerate(term):
        recent = [v for v in term[max(0, i + 1 - span) : i + 1] if math.isfinite(v)]
        means.append(sum(recent) / len(recent) if recent and math.isfinite(value) else None)
    return means


def _value_range(values: Sequence[float]) -> tuple[float, float, bool]:
    """(lowest, highest, logarithmic) of the axis; never an empty range."""
    if not values:
        return 0.0, 1.0, False
    low, high = min(values), max(values)
    if low > 0 and high / low > 30:
        return low / 1.15, high * 1.15, True
    if high == low:
        margin = abs(high) * 0.5 or 0.5
        return low - margin, high + margin, False
    margin = 0.05 * (high - low)
    return (0.0 if 0 <= low < 0.3 * high else low - margin), high + margin, False


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers in [low, high]."""
    raw = (high - low) / 5
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * m for m in (1, 2, 5, 10) if scale * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 3) if len(tens) < 5 else (1,)
    every = max(1, len(tens) // 8)
    return [m * 10.0**ten for ten in tens[::every] for m in steps if low <= m * 10.0**ten <= high] or [low, high]


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

"""Losses over the steps of a training, as a picture. Pillow only."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from .look import LIGHT, Colour, Look, font


def loss_curve(
    losses: Mapping[str, Sequence[float]],
    width: int = 720,
    height: int = 400,
    *,
    look: Look = LIGHT,
    type_px: int | None = None,
) -> Image.Image:
    """Losses over steps, one line a term: every value faint, their running mean strong, the last mean in the legend.

    The axis is logarithmic where the values span more than a factor of 30 and all are positive. Values that are NaN or
    infinite leave a gap. Terms need not have the same number of steps; no steps at all give empty axes.

    type_px: size of the type; None: a 28th of the height. What of the legend does not fit into the width is left out.
    """
    picture = Image.new("RGB", (width, height), look.paper)
    pen, letters = ImageDraw.Draw(picture), font(type_px or max(11, height // 28))
    line = letters.getbbox("0")[3] + 5
    values = [float(v) for term in losses.values() for v in term if math.isfinite(v)]
    steps = max((len(term) for term in losses.values()), default=0)
    low, high, logarithmic = _value_range(values)
    ticks = _log_ticks(low, high) if logarithmic else _ticks(low, high)
    names = [f"{tick:g}" for tick in ticks]
    left = 14 + max(round(letters.getlength(name)) for name in names)
    right = width - max(14, round(letters.getlength(str(steps)) / 2) + 4)  # the last step's number fits in
    top, bottom = line + 8, height - 2 * line - 4

    def x(step: float) -> float:
        return left + (right - left) * (step - 1) / max(steps - 1, 1)

    def y(value: float) -> float:
        low_, high_, value_ = (math.log(v) if logarithmic else v for v in (low, high, value))
        return bottom - (bottom - top) * (value_ - low_) / (high_ - low_)

    for tick, name in zip(ticks, names, strict=True):
        pen.line([(left, y(tick)), (right, y(tick))], fill=look.faint)
        pen.text((left - 6, y(tick)), name, fill=look.ink, font=letters, anchor="rm")
    for step in sorted({round(tick) for tick in _ticks(1, max(steps, 2)) if 1 <= tick <= max(steps, 2)}):
        pen.line([(x(step), bottom), (x(step), bottom + 4)], fill=look.ink)
        pen.text((x(step), bottom + 6), str(step), fill=look.ink, font=letters, anchor="mt")
    pen.line([(left, top), (left, bottom), (right, bottom)], fill=look.ink)
    pen.text(((left + right) / 2, height - 3), "step", fill=look.ink, font=letters, anchor="mb")
    at = left
    for number, (name, term) in enumerate(losses.items()):
        colour, mean = look.lines[number % len(look.lines)], _running_mean(term)
        pale = tuple((c + 2 * p) // 3 for c, p in zip(colour, look.paper, strict=True))
        _polyline(pen, [(x(i + 1), y(v)) if math.isfinite(v) else None for i, v in enumerate(term)], pale, 1)
        _polyline(pen, [(x(i + 1), y(v)) if v is not None else None for i, v in enumerate(mean)], colour, 2)
        last = next((v for v in reversed(mean) if v is not None), None)
        label = name if last is None else f"{name} {last:.4g}"
        if at + letters.getlength(label) <= width:
            pen.text((at, 4), label, fill=colour, font=letters)
        at += letters.getlength(label) + 24
    return picture


def _polyline(pen: ImageDraw.ImageDraw, points: list, colour: Colour, width: int) -> None:
    """Lines through points, broken where one is None; a point alone is a dot."""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) == 1:
            x, y = run[0]
            pen.ellipse((x - width, y - width, x + width, y + width), fill=colour)
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

"""Edit fidelity against motion fidelity, one dot a row of a table, with the intervals of the gains on no adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from study_rows import BASE, PAPER

from det_core.tracking.draw import FAINT, INK, LINES
from det_core.tracking.draw import PAPER as WHITE

SIZE, SCALE = (860, 470), 2  # pixels of the picture; it is drawn larger and reduced
LEFT, RIGHT, TOP, BOTTOM = 62, 280, 34, 48
COLOURS = (*LINES, (140, 86, 75), (227, 119, 194), (188, 189, 34), (31, 78, 121))


def scatter(rows: Mapping[str, dict], title: str) -> Image.Image:
    """One plot; the rows have `motion_fidelity`, `edit_fidelity` and, but for the row without adapter, their gains."""
    picture = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), WHITE)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13 * SCALE)
    spans = {name: [_span(row, score) for score in ("motion_fidelity", "edit_fidelity")] for name, row in rows.items()}
    (x0, x1, x_ticks), (y0, y1, y_ticks) = (_axis([v for span in spans.values() for v in span[i]]) for i in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return (
            SCALE * (LEFT + across * (SIZE[0] - LEFT - RIGHT)),
            SCALE * (SIZE[1] - BOTTOM - up * (SIZE[1] - TOP - BOTTOM)),
        )

    for value in x_ticks:
        pen.line([place(value, y0), place(value, y1)], fill=FAINT, width=SCALE)
        x, y = place(value, y0)
        pen.text((x, y + 5 * SCALE), f"{value:g}", INK, font, anchor="mt")
    for value in y_ticks:
        pen.line([place(x0, value), place(x1, value)], fill=FAINT, width=SCALE)
        x, y = place(x0, value)
        pen.text((x - 6 * SCALE, y), f"{value:g}", INK, font, anchor="rm")
    pen.text((SCALE * LEFT, SCALE * 8), title, INK, font)
    pen.text((SCALE * (SIZE[0] - RIGHT), SCALE * (SIZE[1] - 8)), "motion fidelity", INK, font, anchor="rb")
    pen.text((SCALE * (LEFT + 6), SCALE * (TOP + 4)), "edit fidelity", INK, font)
    for number, name in enumerate(rows):
        colour = {BASE: (130, 130, 130), PAPER: INK}.get(name, COLOURS[number % len(COLOURS)])
        (low_x, x, high_x), (low_y, y, high_y) = spans[name]
        pale = tuple((c + 255) // 2 for c in colour)
        pen.line([place(low_x, y), place(high_x, y)], fill=pale, width=SCALE)
        pen.line([place(x, low_y), place(x, high_y)], fill=pale, width=SCALE)
        _dot(pen, place(x, y), colour)
        key = (SCALE * (SIZE[0] - RIGHT + 22), SCALE * (TOP + 10 + 22 * number))
        _dot(pen, key, colour)
        pen.text((key[0] + 12 * SCALE, key[1]), name, INK, font, anchor="lm")
    return picture.resize(SIZE, Image.Resampling.LANCZOS)


def _dot(pen: ImageDraw.ImageDraw, centre: tuple[float, float], colour: tuple[int, ...]) -> None:
    x, y = centre
    pen.ellipse([x - 6 * SCALE, y - 6 * SCALE, x + 6 * SCALE, y + 6 * SCALE], colour, WHITE, SCALE)


def _span(row: dict, score: str) -> tuple[float, float, float]:
    """Low, middle and high: the row's mean, and around it the interval of its paired gain."""
    gain = row.get(f"gain on {BASE}")
    if gain is None:
        return (row[score],) * 3
    low, high = (row[score] + edge - gain[score]["mean"] for edge in gain[score]["interval"])
    return low, row[score], high


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Limits around the values, and round ticks between them."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.01)
    low, high = low - room, high + room
    power = 10 ** math.floor(math.log10((high - low) / 5))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= (high - low) / 6)
    return low, high, [round(i * step, 6) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

"""What drawn pictures look like: colours for a light and for a dark ground, and the type."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageFont

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    paper: Colour
    ink: Colour
    faint: Colour  # of what lies behind: an axis' ticks
    lines: tuple[Colour, ...]  # one a curve, in order


LIGHT = Look(
    paper=(255, 255, 255),
    ink=(40, 40, 40),
    faint=(222, 222, 222),
    lines=((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207)),
)
DARK = Look(
    paper=(32, 33, 36),
    ink=(226, 226, 226),
    faint=(66, 68, 74),
    lines=((98, 176, 240), (255, 120, 108), (110, 205, 110), (190, 150, 232), (255, 168, 76), (84, 216, 228)),
)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own type. size: in px."""
    return ImageFont.load_default(size)

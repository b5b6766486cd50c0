"""A head map as a picture to look at."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from .heads import HeadMap

CELL, MARGIN, HEADER = 18, 44, 46
SPATIAL, TEMPORAL, NEUTRAL = (33, 102, 172), (178, 24, 43), (247, 247, 247)
FULL_LEAN = 3.0  # log2: an eightfold preference has the full colour


def draw_heads(heads: HeadMap) -> Image.Image:
    """One cell a head, blocks from left to right: blue looks within frames, red across them, pale at neither.

    Heads in the temporal group of the map's rule have a dot.
    """
    blocks, count = heads.spatial.shape
    width, height = max(400, MARGIN + blocks * CELL + 12), HEADER + count * CELL + 28
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    temporal, lean = heads.is_temporal.tolist(), heads.lean.tolist()
    dots = sum(map(sum, temporal))
    title = f"{heads.base_model}: {dots} of {blocks * count} heads temporal"
    pen.text((8, 6), title, fill="black", font=font)
    pen.text((8, 24), f'blue: spatial, red: temporal, dot: by the rule "{heads.rule}"', fill="black", font=font)
    for block in range(blocks):
        x = MARGIN + block * CELL
        if block % 5 == 0:
            pen.text((x + 2, HEADER + count * CELL + 6), str(block), fill="black", font=font)
        for head in range(count):
            y = HEADER + head * CELL
            pen.rectangle((x, y, x + CELL - 2, y + CELL - 2), fill=_colour(lean[block][head]))
            if temporal[block][head]:
                centre = (x + CELL / 2 - 1, y + CELL / 2 - 1)
                pen.ellipse((centre[0] - 2, centre[1] - 2, centre[0] + 2, centre[1] + 2), fill="black")
    for head in range(0, count, 5):
        pen.text((14, HEADER + head * CELL + 1), str(head), fill="black", font=font)
    return picture


def _colour(lean: float) -> tuple[int, int, int]:
    share = min(1.0, abs(lean) / FULL_LEAN)
    end = TEMPORAL if lean > 0 else SPATIAL
    return tuple(round(a + share * (b - a)) for a, b in zip(NEUTRAL, end, strict=True))

"""A head map as a picture to look at."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from .heads import HeadMap

SMALLEST, LARGEST, WIDTH = 18, 48, 760  # pixels of a cell, and of the cells of all blocks together
MARGIN, HEADER = 54, 66
SPATIAL, TEMPORAL, NEUTRAL = (33, 102, 172), (178, 24, 43), (247, 247, 247)
FULL_LEAN = 3.0  # log2: an eightfold preference has the full colour


def draw_heads(heads: HeadMap) -> Image.Image:
    """One cell a head, blocks from left to right: blue looks within frames, red across them, pale at neither.

    Heads in the temporal group of the map's rule have a dot.
    """
    blocks, count = heads.spatial.shape
    cell = cell_size(blocks)
    width, height = max(460, MARGIN + blocks * cell + 12), HEADER + count * cell + 30
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    temporal, lean = heads.is_temporal.tolist(), heads.lean.tolist()
    dots = sum(map(sum, temporal))
    title = f"{heads.base_model}: {dots} of {blocks * count} heads temporal"
    pen.text((8, 6), title, fill="black", font=font)
    pen.text((8, 24), f'blue: spatial, red: temporal, dot: by the rule "{heads.rule}"', fill="black", font=font)
    pen.text((8, HEADER - 20), "head", fill="black", font=font)
    pen.text((8, height - 22), "block", fill="black", font=font)
    every = 1 if cell > 24 else 5
    for block in range(blocks):
        x = MARGIN + block * cell
        if block % every == 0:
            pen.text((x + cell / 2 - 1, height - 22), str(block), fill="black", font=font, anchor="ma")
        for head in range(count):
            y = HEADER + head * cell
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=_colour(lean[block][head]))
            if temporal[block][head]:
                centre, radius = (x + cell / 2 - 1, y + cell / 2 - 1), cell / 9
                box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
                pen.ellipse(box, fill="black")
    for head in range(0, count, every):
        pen.text((MARGIN - 8, HEADER + head * cell + cell / 2 - 1), str(head), fill="black", font=font, anchor="rm")
    return picture


def cell_size(blocks: int) -> int:
    """Pixels a side of one cell, its gap included."""
    return max(SMALLEST, min(LARGEST, WIDTH // blocks))


def _colour(lean: float) -> tuple[int, int, int]:
    share = min(1.0, abs(lean) / FULL_LEAN)
    end = TEMPORAL if lean > 0 else SPATIAL
    return tuple(round(a + share * (b - a)) for a, b in zip(NEUTRAL, end, strict=True))

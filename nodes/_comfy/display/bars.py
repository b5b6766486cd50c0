"""A bar a block."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 360, 60, 44, 40  # pixels of the picture and of its margins
INK, FAINT, BAR, PAPER = (40, 40, 40), (220, 220, 220), (31, 119, 180), (255, 255, 255)


def block_bars(shares: Mapping[int, float], blocks: int) -> Image.Image:
    """{block: share} as bars over all `blocks` of a model."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    highest = max([*shares.values(), 1e-6])
    step, room = (WIDTH - LEFT - 12) / blocks, HEIGHT - TOP - BOTTOM
    for part in (0, 0.5, 1):
        y = HEIGHT - BOTTOM - part * room
        pen.line([(LEFT, y), (WIDTH - 12, y)], fill=FAINT)
        pen.text((LEFT - 8, y), f"{part * highest:.2f}", fill=INK, font=font, anchor="rm")
    every = next(n for n in (1, 2, 5, 10, 20) if n * step >= 28 or n == 20)
    for block in range(blocks):
        left = LEFT + block * step
        if block in shares:
            top = HEIGHT - BOTTOM - shares[block] / highest * room
            pen.rectangle([left + 0.15 * step, top, left + 0.85 * step, HEIGHT - BOTTOM], fill=BAR)
        if block % every == 0:
            pen.text((left + step / 2, HEIGHT - BOTTOM + 6), str(block), fill=INK, font=font, anchor="mt")
    pen.text((LEFT, 10), "what the motion adds to each block's attention (1: as much as is there)", fill=INK, font=font)
    pen.text((WIDTH - 12, HEIGHT - 4), "block", fill=INK, font=font, anchor="rb")
    return picture

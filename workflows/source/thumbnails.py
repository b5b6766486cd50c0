"""The thumbnails of templates 1 to 4 and 6: the name, and the results of `make demo` on the embedded model, moving.

    python workflows/source/thumbnails.py

The browser asks a pack for <name>.jpg alone; what lies there is a moving WebP, which browsers know by its content.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
DEMO = HERE.parent / "docs" / "images" / "demo.png"
SIDE, BAND = 384, 96  # pixels of a thumbnail, of its name
LEFT, TOP, CELL, ACROSS, DOWN, FRAMES = 4, 17, 105, 110.75, 127, 9  # where the pictures stand in DEMO
SOURCE, WITHOUT, GUIDED, WITH, OTHER = 0, 1, 2, 3, 6  # its rows
# By the beginning of a template's name; the first that fits.
ROWS = {
    "1": (SOURCE, WITHOUT, WITH),
    "2": (SOURCE, WITH),
    "3": (SOURCE, "given", WITH),
    "4": (SOURCE, OTHER),
    "6 Try": (SOURCE, GUIDED, WITH),
    "6 App Try": (SOURCE, GUIDED, WITH),
    "6": (SOURCE, WITHOUT, GUIDED),
}


def cell(demo: Image.Image, row: int | str, frame: int) -> Image.Image:
    """One frame of one row; "given" is the picture that a video begins with."""
    row, frame = (WITH, 0) if row == "given" else (row, frame)
    left, top = LEFT + round(ACROSS * frame), TOP + DOWN * row
    return demo.crop((left, top, left + CELL, top + CELL))


def card(name: str, below: str, panels: list[Image.Image]) -> Image.Image:
    """One frame of a thumbnail."""
    picture = Image.new("RGB", (SIDE, SIDE), (24, 26, 30))
    pen = ImageDraw.Draw(picture)
    size = next(s for s in range(44, 10, -2) if ImageFont.load_default(s).getlength(name) < SIDE - 24)
    pen.text((12, 8), name, fill="white", font=ImageFont.load_default(size))
    pen.text((12, 62), below, fill=(180, 190, 200), font=ImageFont.load_default(19))
    width = (SIDE - 4 * (len(panels) - 1)) // len(panels)
    for number, panel in enumerate(panels):
        place = (number * (width + 4), BAND + (SIDE - BAND - width) // 2)
        picture.paste(panel.resize((width, width), Image.Resampling.LANCZOS), place)
    return picture


def main() -> None:
    from source.templates import APPS, TEMPLATES

    demo = Image.open(DEMO).convert("RGB")
    for title in [*(title for title, _ in TEMPLATES.values()), *(f"{title}.app" for title, *_ in APPS.values())]:
        rows = next((rows for start, rows in ROWS.items() if title.startswith(start)), None)
        if rows is None:
            continue
        name, _, below = title[2:].removesuffix(".app").partition(" - ")
        first, *others = (card(name, below, [cell(demo, row, n) for row in rows]) for n in range(FRAMES))
        how = {"save_all": True, "append_images": others, "duration": 150, "loop": 0, "quality": 70}
        first.save(HERE / f"{title}.jpg", "WEBP", **how)


if __name__ == "__main__":
    main()

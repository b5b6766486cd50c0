"""The thumbnails of the templates, moving: results of the embedded model where the template runs on it, and a drawing
of what the template does where it needs a large model, of which there is no result to show.

    python workflows/source/thumbnails.py                        # drawings, and results of `make demo`
    python workflows/source/thumbnails.py ~/ComfyUI/output/det   # and results that templates saved there

The browser asks a pack for <name>.jpg alone; what lies there is a moving WebP, which browsers know by its content.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent)]
DEMO = HERE.parent / "docs" / "images" / "demo.png"
SIDE, BAND, GAP, FRAMES = 384, 96, 4, 9  # pixels of a thumbnail, of its name, between panels; its length
LEFT, TOP, CELL, ACROSS, DOWN = 4, 17, 105, 110.75, 127  # where the pictures stand in DEMO
SOURCE_ROW, WITHOUT_ROW, GUIDED_ROW, WITH_ROW, OTHER_ROW = 0, 1, 2, 3, 6
DEMO_ROWS = {  # by the beginning of a template's name
    "1": (SOURCE_ROW, WITHOUT_ROW, WITH_ROW),
    "4": (SOURCE_ROW, OTHER_ROW),
    "6 Try": (SOURCE_ROW, GUIDED_ROW, WITH_ROW),
    "6 App Try": (SOURCE_ROW, GUIDED_ROW, WITH_ROW),
    "6 In seconds, nothing": (SOURCE_ROW, WITHOUT_ROW, GUIDED_ROW),
    "6 App In seconds": (SOURCE_ROW, WITHOUT_ROW, GUIDED_ROW),
}
SOURCE, WITHOUT, WITH = (0, 256), (260, 516), (520, 776)  # left and right edges in what Compare Videos saves
# Beginning of a template's name -> panels in rows: the beginning of a saved file's name, left and right edge
SAVED = {
    "3 Picture, no download": [[("embedded picture", *place) for place in (SOURCE, WITHOUT, WITH)]],
    "5 Two motions in one video": [[("combined", *place) for place in (SOURCE, WITHOUT, WITH)]],
    "5 Two motions, two places": [[("two regions", 904, 1544)]],
    "7 Fewer blocks, side by side": [[("drop fractions", left, left + 64) for left in (0, 66, 132)]],
    "8 As a LoRA, no download": [[("fym compared", *place) for place in (SOURCE, WITHOUT, WITH)]],
    "8 As a LoRA, beside DeT": [[(f"one clip {which}", *WITHOUT) for which in ("DeT", "FYM", "both")]],
    "9 Heads of a model, a map": [[("fym compared", *SOURCE)], [("heads balanced", 0, 460)]],
}
GROUND, INK, FAINT, BLUE, ORANGE = (24, 26, 30), (226, 226, 226), (78, 84, 92), (98, 176, 240), (255, 168, 76)
Rows = list[list[Image.Image]]


def card(name: str, below: str, rows: Rows) -> Image.Image:
    """One frame of a thumbnail: the name, and panels of one height in each row."""
    picture = Image.new("RGB", (SIDE, SIDE), GROUND)
    pen = ImageDraw.Draw(picture)
    size = next(s for s in range(44, 10, -2) if ImageFont.load_default(s).getlength(name) < SIDE - 24)
    pen.text((12, 8), name, fill="white", font=ImageFont.load_default(size))
    pen.text((12, 62), below, fill=(180, 190, 200), font=ImageFont.load_default(19))
    room = (SIDE - BAND - GAP * (len(rows) - 1)) // len(rows)
    sizes = [sum(panel.width / panel.height for panel in row) for row in rows]  # widths at height 1
    heights = [min(room, int((SIDE - GAP * (len(row) - 1)) / wide)) for row, wide in zip(rows, sizes, strict=True)]
    top = BAND + (SIDE - BAND - sum(heights) - GAP * (len(rows) - 1)) // 2
    for row, wide, height in zip(rows, sizes, heights, strict=True):
        left = (SIDE - int(wide * height) - GAP * (len(row) - 1)) // 2
        for panel in row:
            shown = panel.resize((int(panel.width / panel.height * height), height), Image.Resampling.LANCZOS)
            picture.paste(shown, (left, top))
            left += shown.width + GAP
        top += height + GAP
    return picture


def of_demo(rows: tuple[int, ...]) -> Iterator[Rows]:
    demo = Image.open(DEMO).convert("RGB")
    for frame in range(FRAMES):
        left = LEFT + round(ACROSS * frame)
        corners = [(left, TOP + DOWN * row) for row in rows]
        yield [[demo.crop((x, y, x + CELL, y + CELL)) for x, y in corners]]


def of_videos(folder: Path, rows: list[list[tuple[str, int, int]]]) -> Iterator[Rows] | None:
    """Panels of the newest videos and pictures of their names; None where one is not there."""
    names = {name for row in rows for name, *_ in row}
    newest = {name: max(folder.glob(f"{name}_*"), default=None) for name in names}
    if None in newest.values():
        return None
    shown = {name: _frames(path) for name, path in newest.items()}

    def panel(name: str, left: int, right: int, frame: int) -> Image.Image:
        picture = shown[name][frame % len(shown[name])]
        high = next(h for h in (256, 192, 64) if picture.height >= h)  # what is above are words
        return picture.crop((left, picture.height - high, right, picture.height))

    return ([[panel(*place, frame) for place in row] for row in rows] for frame in range(FRAMES))


def _frames(path: Path) -> list[Image.Image]:
    """Of a video, or the one of a picture."""
    from det_core.media.video import read_video

    if path.suffix == ".png":
        return [Image.open(path).convert("RGB")]
    return [Image.fromarray(frame.numpy()) for frame in read_video(path).frames]


def drawing(kind: str) -> Callable[[], Iterator[Rows]]:
    """2, 6: a clip's path, followed by something else. 3: the same with a picture to begin with. 8: look and motion."""

    def frames() -> Iterator[Rows]:
        for frame in range(FRAMES):
            clip, other = _scene(frame, BLUE, round_=True), _scene(frame, ORANGE, round_=False)
            if kind in "26":
                yield [[clip, other]]
            elif kind == "3":
                yield [[clip, _scene(0, ORANGE, round_=False, path=False), other]]
            else:
                yield [[clip], [_box("how it looks", BLUE), _box("how it moves", ORANGE)]]

    return frames


def _scene(frame: int, colour: tuple[int, int, int], round_: bool, path: bool = True) -> Image.Image:
    """A shape on its way along a path."""
    picture = Image.new("RGB", (256, 256), (36, 39, 45))
    pen = ImageDraw.Draw(picture)
    points = [_place(n / 40 * (FRAMES - 1)) for n in range(41)]
    pen.rectangle((2, 2, 253, 253), outline=FAINT, width=3)
    if path:
        pen.line(points, fill=FAINT, width=5, joint="curve")
        pen.line([p for n, p in enumerate(points) if n <= 40 * frame / (FRAMES - 1)], fill=INK, width=5, joint="curve")
    x, y = _place(frame)
    if round_:
        pen.ellipse((x - 24, y - 24, x + 24, y + 24), fill=colour)
    else:
        spikes = [(n * math.pi / 5 - math.pi / 2, 32 if n % 2 == 0 else 14) for n in range(10)]
        pen.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in spikes], fill=colour)
    return picture


def _place(frame: float) -> tuple[float, float]:
    turn = frame / (FRAMES - 1)
    return 56 + 144 * turn, 128 - 64 * math.sin(2 * math.pi * turn)


def _box(words: str, colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (256, 180), (36, 39, 45))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((2, 2, 253, 177), outline=colour, width=4)
    pen.text((128, 70), words, fill=INK, font=ImageFont.load_default(30), anchor="mm")
    pen.text((128, 118), "a LoRA file", fill=colour, font=ImageFont.load_default(24), anchor="mm")
    return picture


def panels(title: str, saved: Path | None) -> Iterator[Rows] | None:
    """What a template's thumbnail shows, None where it stays as it is."""
    for begins, places in SAVED.items():
        if title.startswith(begins):
            return of_videos(saved, places) if saved else None
    for begins, rows in DEMO_ROWS.items():
        if title.startswith(begins):
            return of_demo(rows)
    return drawing(title[0])() if title[0] in "2368" else None


def main() -> None:
    from source.templates import APPS, TEMPLATES

    saved = Path(sys.argv[1]).expanduser() if len(sys.argv) > 1 else None
    for title in [*(title for title, _ in TEMPLATES.values()), *(f"{title}.app" for title, *_ in APPS.values())]:
        if (shown := panels(title, saved)) is None:
            continue
        name, _, below = title[2:].removesuffix(".app").partition(" - ")
        name, below = (name, below) if below else (name.partition(", ")[0], name.partition(", ")[2])
        first, *others = (card(name, below, rows) for rows in shown)
        how = {"save_all": True, "append_images": others, "duration": 150, "loop": 0, "quality": 70}
        first.save(HERE / f"{title}.jpg", "WEBP", **how)


if __name__ == "__main__":
    main()

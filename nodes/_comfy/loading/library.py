"""The saved motions at a glance, read from the heads of their files."""

from __future__ import annotations

import json
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from ....det_core.adapter.motion_adapter import metadata_of
from ....det_core.media.card import LICENSE, picture_of
from . import paths

WIDTH, ROW, PICTURE = 1024, 148, 640  # pixels of the sheet, of a row, and that a picture may be wide
INK, FAINT, PAPER = (30, 30, 30), (120, 120, 120), (255, 255, 255)


def found_motions(search: str) -> dict[str, dict[str, str]]:
    """{name: metadata} of the saved adapters that have all words of `search`; files that are damaged say so in place of
    a caption."""
    words, found = search.lower().split(), {}
    for name, path in paths.adapter_paths().items():
        try:
            metadata = metadata_of(path)
        except ValueError as error:
            metadata = {"caption": str(error)}
        text = " ".join([name, *in_short(metadata)]).lower()
        if all(word in text for word in words):
            found[name] = metadata
    return found


def in_short(metadata: Mapping[str, str]) -> list[str]:
    """A few lines on a motion: what it fits, what it was learned from, and how."""
    source = _record(metadata.get("source", ""))
    length = f"{source['frames']} frames" if "frames" in source else ""
    rate = f"{source['fps']:g} a second" if isinstance(source.get("fps"), int | float) else ""
    learned = f"{metadata['steps']} steps" if "steps" in metadata else ""
    lines = [
        _joined(metadata.get("base_model", ""), metadata.get("expert", ""), learned),
        _joined(source.get("name", ""), length, rate),
        metadata.get("caption", ""),
        metadata.get(LICENSE, ""),
    ]
    return [line for line in lines if line]


def library_sheet(motions: Mapping[str, Mapping[str, str]]) -> Image.Image:
    """A row a motion: its picture, its name, and `in_short`."""
    sheet = Image.new("RGB", (WIDTH, ROW * max(1, len(motions))), PAPER)
    pen, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(20), ImageFont.load_default(15)
    if not motions:
        pen.text((12, 12), "no saved motion found", fill=FAINT, font=large)
    for row, (name, metadata) in enumerate(motions.items()):
        top, left = row * ROW, 12
        if picture := picture_of(metadata):
            picture.thumbnail((PICTURE, ROW - 20))
            sheet.paste(picture, (left, top + 10))
            left += picture.width + 16
        room = WIDTH - left - 12
        pen.text((left, top + 10), _cut(name.removesuffix(".safetensors"), large, room), fill=INK, font=large)
        for number, line in enumerate(in_short(metadata)):
            pen.text((left, top + 40 + 22 * number), _cut(line, small, room), fill=FAINT, font=small)
    return sheet


def _record(text: str) -> dict:
    """What a file says of its source, as far as it can be read."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _joined(*parts: str) -> str:
    return ", ".join(str(part) for part in parts if part)


def _cut(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text on one line, its end left out where it is longer than `room` pixels."""
    line = " ".join(text.split())
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(f"{line}...") > room:
        line = line[:-1]
    return f"{line}..."

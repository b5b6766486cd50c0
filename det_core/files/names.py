"""Names for files that people type: the same on Linux, macOS and Windows, and never outside their folder."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePath

SUFFIX = ".safetensors"
MAX_BYTES = 180  # of a name; file systems end at 255, and what is written beside it or before it is whole is longer
_FORBIDDEN = re.compile(r'[<>:"|?*\\]')
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format and direction marks, surrogates, line ends
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)


def check_name(name: object) -> str:
    """`name`, without the ending .safetensors, if a file can be called that, possibly in sub-folders of its own ("/").

    A name is refused for what would make it leave its folder, fail when it is written, mean a device on Windows, look
    like another name, be hidden, or end as the states of trainings do.

    Raises: ValueError, one line: the name and what is wrong with it.
    """
    if not isinstance(name, str):
        raise ValueError(f"a name is text, not a {type(name).__name__}")
    clean = name.strip().removesuffix(SUFFIX)
    if wrong := _wrong_with(clean):
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise ValueError(
            f"{shown!r} is not a name for a file: {wrong}. Use letters, digits, - and _, with / for a sub-folder"
        )
    return clean


def slug(text: str) -> str:
    """A name for a file or folder that tells what `text` says: its letters and digits in small, at most 60 of them and
    120 bytes, joined by hyphens.

    Texts that differ have names that differ, on systems that do not tell capitals apart as well: where more than
    spaces was lost, a hash of the text stands at the end. A name is never empty and begins with a letter or digit.
    """
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    plain = "-".join(words)
    if plain and " ".join(words) == text and len(plain) <= 60 and len(plain.encode()) <= 120:
        return plain
    short = plain[:50].encode()[:100].decode(errors="ignore").rstrip("-")
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{short or 'prompt'}-{digest}"


def natural(name: str) -> list[tuple[int, int, str]]:
    """What names are sorted by as people count: "take 2" before "take 10", whatever the capitals."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name.lower()) if part
    ]


def is_hidden(name: str) -> bool:
    """Whether a listing leaves this file or one of its folders out: its name begins with a dot, as those of files that
    are not whole yet do."""
    return any(part.startswith(".") for part in PurePath(name.replace("\\", "/")).parts)


def _wrong_with(name: str) -> str | None:
    if not name:
        return "it is empty"
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        return "it has a character that cannot be seen or written"
    if found := _FORBIDDEN.search(name):
        return f"it has a {found[0]}"
    if len(name.encode()) > MAX_BYTES:
        return f"it has {len(name.encode())} bytes, more than {MAX_BYTES}"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "it has no drive, no / at an end, no .."
        if part != part.strip() or part.endswith("."):
            return f"{part!r} begins or ends with a space or ends with a dot"
        if part.startswith("."):
            return f"{part!r} begins with a dot, so it would be hidden"
        if _DEVICES.fullmatch(part.split(".")[0].strip()):
            return f"{part!r} is a device on Windows"
    if name.casefold().endswith(".state"):
        return "names that end in .state are those of unfinished trainings"
    return None

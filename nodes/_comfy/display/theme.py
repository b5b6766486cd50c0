"""Whether the editor is dark or light, as far as the server can know."""

from __future__ import annotations

import json
import os

import folder_paths
from comfy.cli_args import args

from ....det_core.tracking.look import DARK, LIGHT, Look


def look() -> Look:
    """Of pictures on nodes. With several users the server cannot know whose editor shows them: then, and where a user
    has not chosen, dark, which is ComfyUI's own and is read on either ground."""
    settings = {} if args.multi_user else _settings()
    chosen = str(settings.get("Comfy.ColorPalette", "dark"))
    custom = settings.get("Comfy.CustomColorPalettes")
    palette = custom.get(chosen.removeprefix("custom_")) if isinstance(custom, dict) else None
    light = palette.get("light_theme") if isinstance(palette, dict) else chosen == "light"
    return LIGHT if light else DARK


def _settings() -> dict:
    """What the only user has set in the editor."""
    try:
        with open(os.path.join(folder_paths.get_user_directory(), "default", "comfy.settings.json")) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

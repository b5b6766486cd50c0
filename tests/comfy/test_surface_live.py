"""The nodes are what tests/surface.json says, as users' saved graphs need them: ids, inputs in order, outputs.

A deliberate change is recorded with `UPDATE_SURFACE=1 python -m pytest tests/comfy/test_surface_live.py`; an input
may only be added at the end, as optional.
"""

from __future__ import annotations

import json
import os
from urllib.parse import quote

from conftest import ROOT

SURFACE = ROOT / "tests" / "surface.json"


def described(info: dict) -> dict:
    """One node of /object_info without its texts and the lists of files."""
    inputs = []
    for section in ("required", "optional"):
        for name, value in info["input"].get(section, {}).items():
            options = value[1] if len(value) > 1 else {}
            entry = {"name": name, "type": value[0], "required": section == "required"}
            if "default" in options:
                entry["default"] = options["default"]
            if value[0] == "COMBO" and name not in ("model_name", "name", "folder", "vae_name"):
                entry["options"] = options["options"]
            inputs.append(entry)
    outputs = [{"name": name, "type": kind} for name, kind in zip(info["output_name"], info["output"], strict=True)]
    return {"inputs": inputs, "outputs": outputs, "output_node": info["output_node"]}


def test_surface(server):
    live = {
        name: described(info)
        for name, info in sorted(server.get("/object_info").items())
        if name.startswith(("DeT", "FYM"))
    }
    if os.environ.get("UPDATE_SURFACE"):
        SURFACE.write_text(json.dumps(live, indent=1) + "\n", encoding="utf-8")
    assert live == json.loads(SURFACE.read_text(encoding="utf-8"))


def test_every_input_and_output_has_a_tooltip(server):
    for name, info in server.get("/object_info").items():
        if not name.startswith(("DeT", "FYM")):
            continue
        for section in ("required", "optional"):
            for key, value in info["input"].get(section, {}).items():
                assert len(value[1].get("tooltip", "")) > 12, f"{name}.{key}"
        assert all(len(tip or "") > 12 for tip in info["output_tooltips"]), name
        assert len(info["description"]) > 40 and info["search_aliases"], name


def test_help_pages_templates_and_names_are_served(server):
    surface = json.loads(SURFACE.read_text(encoding="utf-8"))
    templates = server.get("/workflow_templates")["ComfyUI-DeT"]
    assert set(templates) == {path.stem for path in (ROOT / "workflows").glob("*.json")}

    for title in templates:
        for suffix in ("json", "jpg"):
            assert server.get(f"/api/workflow_templates/ComfyUI-DeT/{quote(title)}.{suffix}", raw=True), title
    names = server.get("/i18n")["en"]["nodeDefs"]
    for node in surface:
        assert server.get(f"/extensions/ComfyUI-DeT/docs/{node}.md", raw=True).startswith(b"# ")
        assert names[node]["display_name"]

"""What is made from the node classes is as they are now, and what users see of them is there.

After a deliberate change: `.venv-comfyui/bin/python workflows/build.py --record`. An input may only be added at the
end, as optional.
"""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import quote

from conftest import ROOT

SURFACE = ROOT / "tests" / "surface.json"


def test_what_is_made_from_the_node_classes_is_fresh():
    """In a process of its own: ComfyUI's own nodes are imported, too."""
    code = (
        "import sys; sys.path.insert(0, 'workflows')\n"
        "from source.record import record\n"
        "for path, text in record().items():\n"
        "    if not path.exists() or path.read_text(encoding='utf-8') != text: print('STALE', path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stale = [line for line in done.stdout.splitlines() if line.startswith("STALE")]
    assert not stale, f"run .venv-comfyui/bin/python workflows/build.py --record: {stale}"


def test_the_server_says_the_same(server):
    surface = json.loads(SURFACE.read_text(encoding="utf-8"))
    live = server.get("/object_info")
    assert {name for name in live if name.startswith(("DeT", "FYM"))} == set(surface)
    for name, node in surface.items():
        given = live[name]["input"]
        assert [*given.get("required", {}), *given.get("optional", {})] == [e["name"] for e in node["inputs"]], name
        assert live[name]["output"] == [e["type"] for e in node["outputs"]], name


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

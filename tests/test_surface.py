"""What users' saved graphs rely on, checked without ComfyUI: workflows, help pages and names fit the surface."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SURFACE = json.loads((ROOT / "tests" / "surface.json").read_text(encoding="utf-8"))
API = sorted((ROOT / "workflows" / "api").glob("*.json"))
FROZEN = {
    "DeTLoadDiT",
    "DeTTinyModel",
    "DeTTrackVideo",
    "DeTTrainMotionAdapter",
    "DeTSaveMotionAdapter",
    "DeTLoadMotionAdapter",
    "DeTApplyMotionAdapter",
    "DeTEvaluateMotion",
}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_frozen_ids_are_there():
    assert FROZEN <= set(SURFACE)


@pytest.mark.parametrize("name", SURFACE)
def test_optional_inputs_come_last(name):
    required = [entry["required"] for entry in SURFACE[name]["inputs"]]
    assert required == sorted(required, reverse=True)


@pytest.mark.parametrize("path", API, ids=lambda p: p.stem)
def test_workflow_fits_the_surface(path):
    """Every required input is given, no unknown one, and links join equal types where both ends are ours."""
    graph = read(path)
    for number, node in graph.items():
        known = SURFACE.get(node["class_type"])
        if known is None:
            assert not node["class_type"].startswith(("DeT", "FYM")), node["class_type"]
            continue
        types = {entry["name"]: entry for entry in known["inputs"]}
        assert set(node["inputs"]) <= set(types), number
        assert {n for n, e in types.items() if e["required"]} <= set(node["inputs"]), number
        for name, value in node["inputs"].items():
            if isinstance(value, list) and graph[value[0]]["class_type"] in SURFACE:
                source = SURFACE[graph[value[0]]["class_type"]]["outputs"][value[1]]["type"]
                assert source in types[name]["type"].split(","), (number, name)
            elif "options" in types[name]:
                assert value in types[name]["options"], (number, name)


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        import build

        graphs = build.all_graphs()
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    return build, graphs


def test_files_are_what_their_description_builds(build):
    module, graphs = build
    assert {p.stem for p in (ROOT / "workflows").glob("*.json")} == {title for title, _ in graphs.values()}
    assert {p.stem for p in API} == set(graphs)
    for name, (title, describe) in graphs.items():
        graph = module.Graph()
        describe(graph)
        assert read(ROOT / "workflows" / f"{title}.json") == json.loads(json.dumps(graph.ui())), title
        assert read(ROOT / "workflows" / "api" / f"{name}.json") == json.loads(json.dumps(graph.api())), name


def test_builder_knows_the_widgets_of_our_nodes(build):
    """Widgets are saved by position: their order must be the schema's."""
    module, _ = build
    for name, node in SURFACE.items():
        if name not in module.WIDGETS:
            continue
        widgets = [e["name"] for e in node["inputs"] if e["type"] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")]
        assert module.WIDGETS[name] == widgets, name
        assert module.OUTPUTS[name] == [o["type"] for o in node["outputs"]], name


def test_every_template_has_a_thumbnail():
    for path in (ROOT / "workflows").glob("*.json"):
        picture = path.with_suffix(".jpg")
        assert picture.is_file() and picture.read_bytes()[:2] == b"\xff\xd8", path.stem


@pytest.mark.parametrize("name", SURFACE)
def test_help_page_and_name(name):
    page = (ROOT / "nodes" / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith("# ")
    for entry in SURFACE[name]["inputs"]:
        assert f"`{entry['name']}`" in page, f"{name}: {entry['name']} is not in the help page"
    names = read(ROOT / "locales" / "en" / "nodeDefs.json")[name]
    assert set(names.get("inputs", {})) == {entry["name"] for entry in SURFACE[name]["inputs"]}

"""What users' saved graphs rely on, checked without ComfyUI: workflows, help pages and names fit the surface; and nodes
import no more of ComfyUI than its node API."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SURFACE = json.loads((ROOT / "tests" / "surface.json").read_text(encoding="utf-8"))
API = sorted((ROOT / "workflows" / "api").glob("*.json"))
VALUES = {"INT": (int,), "FLOAT": (float, int), "STRING": (str,), "BOOLEAN": (bool,), "COMBO": (str,)}
COMFYUI = {"comfy", "folder_paths", "server", "nodes", "execution", "latent_preview", "node_helpers"}
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


def built() -> dict[Path, str]:
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        import build

        return build.files()
    finally:
        sys.path.remove(str(ROOT / "workflows"))


def test_files_are_what_their_description_builds():
    files = built()
    assert {path for path in files if path.parent.name == "api"} == set(API)
    for folder in ("workflows", "subgraphs"):
        assert {path for path in files if path.parent.name == folder} == set((ROOT / folder).glob("*.json"))
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python workflows/build.py"


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_widgets_are_saved_in_the_order_of_the_schema(path):
    """The editor reads them by position."""
    for node in read(path)["nodes"]:
        if node["type"] in SURFACE:
            entries = [e for e in SURFACE[node["type"]]["inputs"] if e["type"] in VALUES and not e.get("socket")]
            assert len(entries) == len(node["widgets_values"]), node["type"]
            for entry, value in zip(entries, node["widgets_values"], strict=True):
                assert type(value) in VALUES[entry["type"]], (node["type"], entry["name"], value)
                assert value in entry.get("options", [value]), (node["type"], entry["name"], value)


def inside(workflow: dict) -> list[dict]:
    """The nodes of a workflow and of its subgraphs."""
    return [
        node for part in (workflow, *workflow.get("definitions", {}).get("subgraphs", ())) for node in part["nodes"]
    ]


def test_every_template_has_a_thumbnail():
    """The editor asks for <name>.jpg; browsers know a moving WebP by its content. Results move."""
    for path in (ROOT / "workflows").glob("*.json"):
        picture = path.with_suffix(".jpg").read_bytes()
        moving = picture[:4] == b"RIFF" and picture[8:12] == b"WEBP" and b"ANIM" in picture[:64]
        assert moving or (picture[:2] == b"\xff\xd8" and path.stem[0] in "5789"), path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_every_model_file_can_be_fetched(path):
    """A loader names the address of each file, so that the editor offers the download."""
    for node in inside(read(path)):
        files = [v for v in node["widgets_values"] if isinstance(v, str) and v.endswith((".safetensors", ".pth"))]
        known = {model["name"]: model for model in node["properties"].get("models", ())}
        loads = "Load" in node["type"] and not node["type"].startswith(("DeTLoadMotion", "DeTLoadStep"))
        assert not loads or set(files) == set(known), (path.stem, node["type"])
        for name, model in known.items():
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{name}")
            assert model["directory"] in {"checkpoints", "diffusion_models", "loras", "text_encoders", "vae"}


def test_the_pack_names_itself_as_the_registry_does():
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        from source.editor import PACK_ID
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    assert f'\nname = "{PACK_ID}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_names_of_templates_sort_and_can_be_told_apart():
    """The editor shows about 25 letters of a name."""
    shown = [path.stem[:25] for path in (ROOT / "workflows").glob("*.json")]
    assert len(set(shown)) == len(shown)
    assert all(name[0].isdigit() for name in shown) and min(shown).startswith("1 Start here")


@pytest.mark.parametrize("name", SURFACE)
def test_help_page_and_name(name):
    page = (ROOT / "nodes" / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith("# ")
    for entry in SURFACE[name]["inputs"]:
        assert f"`{entry['name']}`" in page, f"{name}: {entry['name']} is not in the help page"
    names = read(ROOT / "locales" / "en" / "nodeDefs.json")[name]
    assert set(names.get("inputs", {})) == {entry["name"] for entry in SURFACE[name]["inputs"]}


def shape(page: str) -> list[str]:
    """What a help page is made of: headings, points, pictures, inputs, without words."""
    found = []
    for line in filter(None, page.splitlines()):
        picture, given = re.match(r"!\[.*\]\((.*)\)", line), re.match(r"- `(\w+)`", line)
        begins = re.match(r"#+|-|\d+\.", line)
        found.append(picture[1] if picture else given[1] if given else begins[0] if begins else "text")
    return found


@pytest.mark.parametrize("name", SURFACE)
def test_the_chinese_help_page_is_in_step(name):
    """Block by block the same, and translated; one that was changed since is English until chinese.json has it."""
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        from source.record import PAGES, TRANSLATIONS, blocks, in_chinese
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    english = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    chinese = (PAGES / name / "zh.md").read_text(encoding="utf-8")
    assert chinese == in_chinese(english, read(TRANSLATIONS)), "run python workflows/build.py"
    assert shape(chinese) == shape("\n".join(blocks(english)))


def test_chinese_help_pages_are_nearly_all_translated():
    """What falls back to English, of all blocks with words; what is alike in both, as a picture, is not counted."""
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        from source.record import PAGES, blocks
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    english = {name: blocks((PAGES / f"{name}.md").read_text(encoding="utf-8")) for name in SURFACE}
    words = [(name, block) for name, page in english.items() for block in page if block and not block.startswith("![")]
    behind = [(name, block) for name, block in words if block in blocks((PAGES / name / "zh.md").read_text("utf-8"))]
    assert len(behind) <= 0.01 * len(words), behind


def test_help_pages_have_pictures_that_are_there_and_small():
    pages = ROOT / "nodes" / "web" / "docs"
    named = {link for page in pages.glob("*.md") for link in re.findall(r"!\[.*\]\((.*)\)", page.read_text("utf-8"))}
    there = {f"images/{path.name}" for path in (pages / "images").iterdir()}
    assert named == there and len(named) >= 5
    assert sum(path.stat().st_size for path in (pages / "images").iterdir()) < 600_000


def leaves(texts: dict, place: tuple = ()) -> dict[tuple, str]:
    """Every text by where it stands."""
    found = {}
    for key, value in texts.items():
        found |= leaves(value, (*place, key)) if isinstance(value, dict) else {(*place, key): value}
    return found


def test_chinese_is_complete():
    """The same places have texts, and nearly all are translated: one that was changed since falls back to English until
    workflows/source/chinese.json has it."""
    english, chinese = (leaves(read(ROOT / "locales" / language / "nodeDefs.json")) for language in ("en", "zh"))
    assert set(english) == set(chinese)
    behind = {text for place, text in english.items() if chinese[place] == text} - {None, "CLIP", "VAE", "JSON"}
    assert len(behind) <= 0.05 * len(english), behind


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").glob("*.py")), ids=lambda p: p.stem)
def test_nodes_import_comfyui_through_its_node_api_alone(path):
    """What else is known of ComfyUI is known in nodes/_comfy."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.split(".")[0])
    assert not {name for name in imported if name in COMFYUI or name.startswith("comfy_") and name != "comfy_api"}


ROOMS = ("sockets", "display", "loading", "gradients", "sampling", "training")  # each imports only from earlier ones


@pytest.mark.parametrize(
    "path", sorted((ROOT / "nodes" / "_comfy").glob("*/*.py")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_room_of_the_bridge_imports_only_from_those_before_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 2]
    rooms = {(node.module or node.names[0].name).split(".")[0] for node in imports}
    assert rooms <= set(ROOMS[: ROOMS.index(path.parent.name)])


def test_det_core_never_imports_comfyui():
    for path in (ROOT / "det_core").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (comfy|folder_paths|server)\b", path.read_text(), re.MULTILINE), path

"""A headless Chromium opens every template: nothing missing, no error, the same graph as the API file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_server import PACK
from conftest import HERE, ROOT
from demo_adapter import write_demo_adapter

BROWSER = HERE / "browser"
# The editor itself asks for files that are not there, and warns while it starts.
NORMAL = ("Failed to load resource", "ComfyApp graph accessed before initialization")


def chromium() -> str | None:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return os.environ.get("CHROMIUM") or next((path for path in found if path), None)


@pytest.fixture(scope="module")
def visit(server, tmp_path_factory) -> tuple[dict, Path]:
    """(what the browser saw of each workflow, folder of its screenshots)."""
    if not (chromium() and shutil.which("npm")):
        pytest.skip(
            "NO BROWSER: install chromium and node (apt-get install chromium nodejs npm); workflows were not "
            "opened in an editor"
        )
    if not (BROWSER / "node_modules").is_dir():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=BROWSER, check=True)
    write_demo_adapter(server.base / "models" / "det_adapters")
    out = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    out.mkdir(parents=True, exist_ok=True)
    titles = sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))
    command = ["node", "visit.mjs", server.url, chromium(), PACK, str(out), *titles]
    subprocess.run(command, cwd=BROWSER, check=True, timeout=900)
    return json.loads((out / "report.json").read_text(encoding="utf-8")), out


def api_of(title: str) -> dict:
    """The API file of a template, by the description that both are built from."""
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        from source.det import GRAPHS
        from source.fym import FYM_GRAPHS
        from source.guidance import GUIDANCE_GRAPHS
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    (name,) = [name for name, (shown, _) in {**GRAPHS, **GUIDANCE_GRAPHS, **FYM_GRAPHS}.items() if shown == title]
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def test_all_open_without_missing_nodes_or_errors(visit):
    report, out = visit
    assert set(report) == {p.stem for p in (ROOT / "workflows").glob("*.json")}
    for title, seen in report.items():
        assert seen["missing"] == [] and seen["red"] == [], title
        assert [e for e in seen["errors"] if not any(known in e for known in NORMAL)] == [], title
        assert (out / f"{title}.png").stat().st_size > 20000


def test_nodes_are_large_enough_and_do_not_overlap(visit):
    """A node that is smaller than its content grows when it is drawn, over its neighbour."""
    report, _ = visit
    title_height = 30  # pixels that the title takes above a node's position
    for title, seen in report.items():
        boxes = seen["boxes"]
        small = [(b["type"], b["height"], b["needs"][1]) for b in boxes if b["height"] < b["needs"][1]]
        assert not small, title
        over = [
            (a["type"], b["type"])
            for i, a in enumerate(boxes)
            for b in boxes[:i]
            if a["x"] < b["x"] + b["width"]
            and b["x"] < a["x"] + a["width"]
            and a["y"] - title_height < b["y"] + b["height"]
            and b["y"] - title_height < a["y"] + a["height"]
        ]
        assert not over, title


def test_thumbnails_are_shown(visit):
    report, _ = visit
    for title, seen in report.items():
        shown = [width for _, width in seen["pictures"]]
        assert len(shown) >= len(report) and all(width > 100 for width in shown), title


def plain(graph: dict) -> dict:
    """Classes, inputs and links, without titles; the editor writes numbers and links its own way."""
    return {
        number: (
            node["class_type"],
            {k: [str(v[0]), v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()},
        )
        for number, node in graph.items()
    }


def test_the_editor_sends_what_the_api_file_says(visit):
    report, _ = visit
    for title, seen in report.items():
        expected, actual = plain(api_of(title)), plain(seen["output"])
        assert set(actual) == set(expected), title
        for number, (kind, inputs) in expected.items():
            assert actual[number][0] == kind, title
            missing = {k: v for k, v in inputs.items() if actual[number][1].get(k) != v}
            assert not missing, (title, number, kind, missing, actual[number][1])

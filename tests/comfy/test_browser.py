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


def prepared_browser(tmp_path_factory) -> Path:
    """The folder for screenshots, once there is a browser; skips loudly where there is none."""
    if not (chromium() and shutil.which("npm")):
        pytest.skip(
            "NO BROWSER: install chromium and node (apt-get install chromium nodejs npm); workflows were not "
            "opened in an editor"
        )
    if not (BROWSER / "node_modules").is_dir():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=BROWSER, check=True)
    out = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    out.mkdir(parents=True, exist_ok=True)
    return out


def templates() -> list[str]:
    """Names of the workflows in the template browser, without those of the apps."""
    return sorted(p.stem for p in (ROOT / "workflows").glob("*.json") if not p.stem.endswith(".app"))


@pytest.fixture(scope="module")
def visit(server, tmp_path_factory) -> tuple[dict, Path]:
    """(what the browser saw of each workflow, folder of its screenshots)."""
    out = prepared_browser(tmp_path_factory)
    write_demo_adapter(server.base / "models" / "det_adapters")
    titles = templates()
    command = ["node", "visit.mjs", server.url, chromium(), PACK, str(out), *titles]
    subprocess.run(command, cwd=BROWSER, check=True, timeout=900)
    return json.loads((out / "report.json").read_text(encoding="utf-8")), out


def api_of(title: str) -> dict:
    """The API file of a template, by the description that both are built from."""
    sys.path.insert(0, str(ROOT / "workflows"))
    try:
        from source.templates import TEMPLATES
    finally:
        sys.path.remove(str(ROOT / "workflows"))
    (name,) = [name for name, (shown, _) in TEMPLATES.items() if shown == title]
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def test_all_open_without_missing_nodes_or_errors(visit):
    report, out = visit
    assert set(report) == set(templates())
    for title, seen in report.items():
        assert seen["missing"] == [] and seen["red"] == [], title
        assert [e for e in seen["errors"] if not any(known in e for known in NORMAL)] == [], title
        assert (out / f"{title} (classic).png").stat().st_size > 20000


def test_text_can_be_read_where_a_template_opens(visit):
    """Below a zoom of about 0.57 the classic canvas draws no text at all."""
    report, _ = visit
    low = {(title, how): zoom for title, seen in report.items() for how, zoom in seen["zoom"].items() if zoom < 0.6}
    assert all(len(seen["zoom"]) == 3 for seen in report.values())
    assert not low


TITLE_HEIGHT = 30  # pixels that the title takes above a node's position


def overlapping(boxes: list[dict]) -> list[tuple[str, str]]:
    """Pairs of nodes that cover each other; boxes with their titles."""
    return [
        (a["title"], b["title"])
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a["x"] < b["x"] + b["width"]
        and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"]
        and b["y"] < a["y"] + a["height"]
    ]


def with_title(box: dict) -> dict:
    return {**box, "y": box["y"] - TITLE_HEIGHT, "height": box["height"] + TITLE_HEIGHT}


def test_nodes_are_large_enough_and_do_not_overlap(visit):
    """A node that is smaller than its content grows when it is drawn, over its neighbour."""
    report, _ = visit
    for title, seen in report.items():
        boxes = seen["boxes"]["classic"]
        small = [(b["title"], b["height"], b["needs"][1]) for b in boxes if b["height"] < b["needs"][1]]
        assert not small, title
        assert not overlapping([with_title(box) for box in boxes]), title


def test_nodes_2_0_do_not_overlap(visit):
    report, _ = visit
    for title, seen in report.items():
        boxes = [{"title": box["title"], **box["drawn"]} for box in seen["boxes"]["nodes 2.0"]]
        assert not overlapping(boxes), title


def test_thumbnails_are_shown(visit):
    report, _ = visit
    for title, seen in report.items():
        shown = [width for name, width in seen["pictures"] if name == title]
        assert shown and all(width > 100 for width in shown), title


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


APP = "1 Start here - motion from a clip.app"


@pytest.fixture(scope="module")
def newcomer(server, tmp_path_factory) -> tuple[list[dict], Path]:
    """(what a newcomer meets in each look of the editor, folder of the screenshots)."""
    out = prepared_browser(tmp_path_factory)
    command = ["node", "newcomer.mjs", server.url, chromium(), PACK, str(out), APP]
    subprocess.run(command, cwd=BROWSER, check=True, timeout=1500)
    return json.loads((out / "newcomer.json").read_text(encoding="utf-8")), out


def test_three_clicks_from_the_template_browser_to_a_result(newcomer):
    looks, _ = newcomer
    assert [look["look"] for look in looks] == ["classic dark", "nodes 2.0 dark", "classic light", "nodes 2.0 light"]
    for look in looks:
        print(f"{look['look']}: {look['seconds']:.0f} s from Run to the first video")
        assert look["clicks"] == 3
        for label in ("Motion", "Prompt", "Strength of the motion", "Seed"):
            assert label in look["panel"], (look["look"], label)
        assert [e for e in look["errors"] if not any(known in e for known in NORMAL)] == []


def test_nothing_covers_its_neighbour_after_a_run(newcomer):
    """Pictures and videos that nodes show fit into the room that they were given."""
    for look in newcomer[0]:
        boxes = look["boxes"]
        drawn = [{"title": b["title"], **b["drawn"]} if b.get("drawn") else with_title(b) for b in boxes]
        assert not overlapping(drawn), look["look"]

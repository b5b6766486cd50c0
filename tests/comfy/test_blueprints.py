"""The blueprints in the editor: each is found by its name, has its sockets on the canvas, and runs once it is
connected."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import ROOT
from graphs import nodes
from test_browser import BROWSER, NORMAL, chromium, prepared_browser

SOCKETS = {
    "Transfer motion": (["model", "clip", "vae", "video"], ["video", "frames", "adapter"]),
    "Learn a motion": (
        ["model", "clip", "vae", "video"],
        ["adapter", "frames", "empty latent", "fps", "tracks"],
    ),
    "Replay a motion": (["model", "clip", "vae", "adapter", "latent"], ["video", "frames"]),
}


@pytest.fixture(scope="module")
def dropped(server, tmp_path_factory) -> dict:
    """What the browser saw of the blueprints on its canvas, and what it would send once they are connected."""
    out = prepared_browser(tmp_path_factory)
    subprocess.run(["node", "blueprints.mjs", server.url, chromium(), str(out)], cwd=BROWSER, check=True, timeout=600)
    return json.loads((out / "blueprints.json").read_text(encoding="utf-8"))


def test_none_is_forgotten():
    assert {path.stem for path in (ROOT / "subgraphs").glob("*.json")} == set(SOCKETS)


def test_they_open_without_errors(dropped):
    assert [error for error in dropped["errors"] if not any(known in error for known in NORMAL)] == []


@pytest.mark.parametrize("name", SOCKETS)
def test_its_sockets_are_on_the_canvas(dropped, name):
    seen, (inputs, outputs) = dropped["seen"][name], SOCKETS[name]
    assert seen["title"] == name and len(seen["inside"]) > 3
    assert seen["inputs"][: len(inputs)] == inputs and seen["outputs"] == outputs


@pytest.mark.parametrize("canvas", [0, 1], ids=["transfer", "learn, then replay"])
def test_what_the_editor_makes_of_them_runs(server, dropped, canvas):
    graph = dropped["sent"][canvas]
    (training,) = nodes(graph, "DeTTrainMotionAdapter")
    (sampling,) = nodes(graph, "KSampler")
    training["inputs"] |= {"steps": 3, "gradient_checkpointing": False}
    sampling["inputs"] |= {"steps": 2}
    outputs = server.run(graph)
    (save,) = [number for number, node in graph.items() if node["class_type"] == "SaveVideo"]
    assert server.file(outputs[save]["images"][0]).stat().st_size > 500


def test_a_rate_that_is_not_connected_is_one_that_comfyui_takes(server, dropped):
    (video,) = nodes(dropped["sent"][2], "CreateVideo")
    taken = server.get("/object_info/CreateVideo")["CreateVideo"]["input"]["required"]["fps"][1]
    assert taken["min"] <= video["inputs"]["fps"] <= taken["max"]

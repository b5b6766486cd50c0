"""Every API workflow is queued on a real server and its result is checked by value."""

from __future__ import annotations

import pytest
import torch
from graphs import API, nodes, saved_videos, shrunk, sprite_fidelity, workflow

DEMO_FIDELITY = 0.953  # what `make demo` measures for the workflow's prompt and seed
LARGE = ["transfer_cogvideox_5b", "transfer_hunyuan_video", "transfer_step_video", "transfer_wan_2_1"]


def test_no_workflow_is_forgotten():
    """Those of Follow-Your-Motion are queued in test_fym_server.py."""
    assert {p.stem for p in API.glob("*.json") if not p.stem.startswith("fym")} == {
        *LARGE,
        "guide_embedded",
        "transfer_embedded",
        "reuse_adapter",
        "combine_adapters",
        "compare_drop_fractions",
    }


@pytest.fixture(scope="session")
def embedded_run(server):
    """The embedded workflow, whole: (graph, outputs, seconds)."""
    import time

    graph = workflow("transfer_embedded")
    started = time.monotonic()
    outputs = server.run(graph, 1800)
    return graph, outputs, time.monotonic() - started


def test_embedded(server, embedded_run):
    graph, outputs, seconds = embedded_run
    print(f"embedded workflow: {seconds:.0f} s from POST to the saved video")
    videos = saved_videos(server, graph, outputs)
    moved, without = (
        sprite_fidelity(videos["det/embedded with adapter"]),
        sprite_fidelity(videos["det/embedded without"]),
    )
    print(f"motion fidelity {moved:.3f} with the adapter, {without:.3f} without")
    assert abs(moved - DEMO_FIDELITY) < 0.03
    assert moved > without + 0.25
    reports = [ui["text"][0] for node, ui in outputs.items() if graph[node]["class_type"] == "DeTEvaluateMotion"]
    assert len(reports) == 2 and all(r.startswith("motion fidelity (strict): ") for r in reports)
    assert (server.base / "models" / "det_adapters" / "embedded demo.safetensors").is_file()


def test_reuse_needs_no_restart(server, embedded_run):
    graph = workflow("reuse_adapter")
    outputs = server.run(graph)
    assert sprite_fidelity(saved_videos(server, graph, outputs)["det/reuse"]) > 0.4


def test_guided_in_one_run_without_training(server):
    graph = workflow("guide_embedded")
    assert sprite_fidelity(saved_videos(server, graph, server.run(graph))["det/embedded guided"]) > 0.6


def test_combine(server):
    graph = workflow("combine_adapters")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"]["steps"] = 3
    frames = saved_videos(server, graph, server.run(graph))["det/combined"]
    assert frames.shape == (9, 64, 64, 3) and frames.std() > 0.02


def test_compare(server):
    graph = workflow("compare_drop_fractions")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"] |= {"steps": 20}
    frames = saved_videos(server, graph, server.run(graph))["det/drop fractions"]
    assert frames.shape[0] == 9 and frames.shape[2] >= 3 * 64
    left, middle, right = (frames[:, :, i * 66 : i * 66 + 64] for i in range(3))
    assert (left - right).abs().max() > 0.02 and (left - middle).abs().max() > 0.02


@pytest.mark.parametrize("name", LARGE)
def test_large_models(server, name):
    graph = shrunk(workflow(name))
    outputs = server.run(graph)
    (frames,) = saved_videos(server, graph, outputs).values()
    assert frames.shape == (17 if "step" in name else 9, 64, 64, 3) and frames.std() > 0.01
    # Strength 0 gives other frames: the adapter acts in this graph.
    for node in nodes(graph, "DeTApplyMotionAdapter"):
        node["inputs"]["strength"] = 0.0
    (base,) = saved_videos(server, graph, server.run(graph)).values()
    assert base.shape == frames.shape
    assert not torch.equal(base, frames)

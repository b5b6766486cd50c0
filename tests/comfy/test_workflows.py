"""Every API workflow is queued on a real server and its result is checked by value."""

from __future__ import annotations

import pytest
import torch
from graphs import API, compared, nodes, saved_videos, shrunk, sprite_fidelity, workflow

DEMO_FIDELITY = 0.953  # what `make demo` measures for the workflow's prompt and seed
LARGE = [
    "transfer_cogvideox_5b",
    "transfer_hunyuan_video",
    "transfer_step_video",
    "transfer_wan_2_1",
    "transfer_ltx_2_3",
    "transfer_ltx_2_5",
    "transfer_wan_2_2",
    "transfer_minimax_h3",
    "picture_ltx_2_3",
    "picture_wan_2_2",
    "picture_minimax_h3",
]
GUIDED = ["guide_cogvideox_5b", "guide_wan_2_2"]
FRAMES = {"transfer_step_video": 17, "transfer_minimax_h3": 5, "picture_minimax_h3": 5}  # others: 9


def test_no_workflow_is_forgotten():
    """Those of Follow-Your-Motion are queued in test_fym_server.py."""
    assert {p.stem for p in API.glob("*.json") if not p.stem.startswith("fym")} == {
        *LARGE,
        *GUIDED,
        "guide_embedded",
        "try_first_embedded",
        "transfer_embedded",
        "picture_embedded",
        "reuse_adapter",
        "combine_adapters",
        "regions_embedded",
        "compare_drop_fractions",
    }


@pytest.fixture(scope="session")
def embedded_run(server):
    """The embedded workflow, whole: (graph, outputs, seconds)."""
    import time

    graph = workflow("transfer_embedded")
    started = time.monotonic()
    outputs = server.run(graph, 1800)
    seconds = time.monotonic() - started
    job = max(server.get("/api/jobs")["jobs"], key=lambda job: job["create_time"])
    assert job["preview_output"]["filename"].startswith("embedded compared"), "what the job list shows of the run"
    return graph, outputs, seconds


def test_embedded(server, embedded_run):
    graph, outputs, seconds = embedded_run
    print(f"embedded workflow: {seconds:.0f} s from POST to the saved video")
    videos = compared(server, graph, outputs)
    assert sprite_fidelity(videos["source"]) > 0.99
    moved, without = sprite_fidelity(videos["with"]), sprite_fidelity(videos["without"])
    print(f"motion fidelity {moved:.3f} with the adapter, {without:.3f} without")
    assert abs(moved - DEMO_FIDELITY) < 0.03
    assert moved > without + 0.25
    reports = [ui["text"][0] for node, ui in outputs.items() if graph[node]["class_type"] == "DeTEvaluateMotion"]
    assert len(reports) == 1 and all(r.startswith("motion fidelity (strict): ") for r in reports)
    assert (server.base / "models" / "det_adapters" / "embedded demo.safetensors").is_file()


def test_reuse_needs_no_restart(server, embedded_run):
    graph = workflow("reuse_adapter")
    outputs = server.run(graph)
    assert sprite_fidelity(saved_videos(server, graph, outputs)["det/reuse"]) > 0.4


def test_a_picture_is_where_the_small_world_begins(server):
    graph = workflow("picture_embedded")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"]["steps"] = 20
    videos = compared(server, graph, server.run(graph))
    first = {name: video[0].float() for name, video in videos.items()}
    assert (first["with"] - first["without"]).abs().mean() < 0.05 < (first["with"] - first["source"]).abs().mean()
    assert (videos["with"] - videos["without"]).abs().mean() > 0.01


def test_guided_in_one_run_without_training(server):
    graph = workflow("guide_embedded")
    assert sprite_fidelity(compared(server, graph, server.run(graph))["with"]) > 0.6


def test_trying_first_trains_only_what_is_switched_on(server):
    def states() -> list:
        return list((server.base / "models" / "det_adapters").glob("try first*"))

    graph = workflow("try_first_embedded")
    tried = compared(server, graph, server.run(graph))
    assert sprite_fidelity(tried["with"]) > 0.6 and not states()
    (switch,) = nodes(graph, "ComfySwitchNode")
    switch["inputs"]["switch"] = True
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"]["steps"] = 3
    learned = compared(server, graph, server.run(graph))
    assert states()
    apart = {name: float((learned[name] - tried[name]).abs().mean()) for name in tried}
    assert apart["source"] < 0.01 and apart["without"] < 0.01 and apart["with"] > 0.02  # H.264 loses a little


def test_combine(server):
    graph = workflow("combine_adapters")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"]["steps"] = 3
    frames = compared(server, graph, server.run(graph))["with"]
    assert frames.shape == (9, 64, 64, 3) and frames.std() > 0.02


def test_two_motions_in_two_places(server):
    """Without the motion of the right half, the right half changes more than the left one."""
    graph = workflow("regions_embedded")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"] |= {"steps": 3, "learning_rate": 0.05}
    for node in nodes(graph, "DeTApplyMotionAdapter"):
        # the last block alone, in one step: no attention after it spreads the motion
        node["inputs"] |= {"blocks": "7", "strength": 8.0}
    for node in nodes(graph, "KSampler"):
        node["inputs"]["steps"] = 1

    def result():
        """(T, H, W, 3) of the wide picture, four pixels to one of the model's."""
        (frames,) = saved_videos(server, graph, server.run(graph), "DeTCompareVideos").values()
        return frames[:, -256:, -640:]

    both = result()
    (right,) = [n for n in nodes(graph, "DeTApplyMotionAdapter") if n["_meta"]["title"].endswith("right")]
    right["inputs"]["strength"] = 0.0
    change = (both - result()).abs().mean((0, 1, 3))
    assert change[320:].mean() > 1.5 * change[:320].mean(), "the left changes by what H.264 loses"
    assert change[320:].mean() > 0.0015


def test_compare(server):
    graph = workflow("compare_drop_fractions")
    for node in nodes(graph, "DeTTrainMotionAdapter"):
        node["inputs"] |= {"steps": 20}
    frames = saved_videos(server, graph, server.run(graph))["det/drop fractions"]
    assert frames.shape[0] == 9 and frames.shape[2] >= 3 * 64
    left, middle, right = (frames[:, :, i * 66 : i * 66 + 64] for i in range(3))
    assert (left - right).abs().max() > 0.02 and (left - middle).abs().max() > 0.02


@pytest.mark.parametrize("name", [*LARGE, *GUIDED])
def test_large_models(server, name):
    graph = shrunk(workflow(name))
    outputs = server.run(graph)
    frames = next(iter(saved_videos(server, graph, outputs).values()))
    assert frames.shape == (FRAMES.get(name, 9), 64, 64, 3) and frames.std() > 0.01
    # Strength 0 gives other frames: the adapter, or the guidance, acts in this graph.
    for node in nodes(graph, "DeTGuideMotion" if name in GUIDED else "DeTApplyMotionAdapter"):
        node["inputs"]["strength"] = 0.0
    base = next(iter(saved_videos(server, graph, server.run(graph)).values()))
    assert base.shape == frames.shape
    assert not torch.equal(base, frames)

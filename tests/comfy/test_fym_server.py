"""The workflows and nodes of Follow-Your-Motion on a real server, by value; Cancel, resume, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from comfy_server import PromptError
from graphs import compared, failed, fitted, only, saved_videos, shrunk, sprite_fidelity, wait_for_step, workflow
from safetensors import safe_open
from safetensors.torch import load_file

HEADS, TRAIN, LOADER = "FYMClassifyHeads", "FYMTrainMotionLoRA", "LoraModelLoader"


def wan(steps: int = 3, **changes) -> dict:
    """The workflow of Wan at the size of the tests."""
    graph = shrunk(workflow("fym_wan_2_1"))
    only(graph, TRAIN).update(
        {
            "spatial_steps": steps,
            "temporal_steps": steps,
            "learning_rate": 0.02,
            "rank": 4,
            "preview_every": 2,
            "gradient_checkpointing": False,
            **changes,
        }
    )
    only(graph, HEADS)["draws"] = 1
    return graph


def newest_file(server, prefix: str) -> Path:
    files = (server.base / "models" / "loras").glob(f"{prefix}*.safetensors")
    return max(files, key=lambda path: path.stat().st_mtime)


def newest_lora(server, prefix: str) -> dict[str, torch.Tensor]:
    return load_file(newest_file(server, prefix))


def test_embedded_workflow(server):
    graph = workflow("fym_embedded")
    outputs = server.run(graph, 1800)
    videos = compared(server, graph, outputs)
    moved, without = sprite_fidelity(videos["with"]), sprite_fidelity(videos["without"])
    print(f"motion fidelity {moved:.3f} with the LoRAs, {without:.3f} without")
    assert moved > without + 0.2
    pictures = [o["images"][0] for n, o in outputs.items() if graph[n]["class_type"] == HEADS]
    assert len(pictures) == 1 and server.file(pictures[0]).stat().st_size > 500
    spatial, temporal = (newest_lora(server, f"embedded demo {name}") for name in ("spatial", "temporal"))
    for name, up in temporal.items():
        if ".lora_up." in name and name in spatial:
            both = (up.abs().sum(1) > 0) & (spatial[name].abs().sum(1) > 0)
            assert name.split(".")[-3] == "attn_out" or not both.any(), "the two LoRAs share no row"


def test_wan_workflow_and_its_files_in_the_stock_loader(server):
    graph = wan()
    (frames,) = saved_videos(server, graph, server.run(graph), "DeTCompareVideos").values()
    assert len(frames) == 9 and frames.std() > 0.01
    # The file, which the stock loader lists, does the same through Load LoRA; it says how long it was trained.
    file = newest_file(server, "wan motion temporal")
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["steps"] == "3" and opened.metadata()["heads"] == "temporal"
    temporal = next(n for n, v in graph.items() if v["class_type"] == LOADER and v["inputs"]["strength_model"] == 1.0)
    stock = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {
            "model": graph[temporal]["inputs"]["model"],
            "lora_name": file.name,
            "strength_model": 1.0,
        },
    }
    same = {**graph, temporal: stock}
    assert torch.equal(
        *(next(iter(saved_videos(server, g, server.run(g), "DeTCompareVideos").values())) for g in (graph, same))
    )
    graph[temporal]["inputs"]["strength_model"] = 0.0
    (base,) = saved_videos(server, graph, server.run(graph), "DeTCompareVideos").values()
    assert not torch.equal(base, frames)


def test_combined_and_head_map_workflows(server):
    graph = workflow("fym_and_det")
    for kind, steps in (("DeTTrainMotionAdapter", {"steps": 3}), (TRAIN, {"spatial_steps": 2, "temporal_steps": 3})):
        only(graph, kind).update(steps)
    videos = saved_videos(server, graph, server.run(graph), "DeTCompareVideos")
    assert len(videos) == 3
    assert all(len(v) == 9 and v.shape[2] == 2 * 256 + 4 and v.std() > 0.02 for v in videos.values())
    graph = workflow("fym_heads")
    outputs = server.run(graph)
    assert sum(graph[n]["class_type"] == "SaveImage" and len(o["images"]) == 1 for n, o in outputs.items()) == 2


def test_cancel_and_resume(server):
    """Cancel in the second stage; resumed, it ends with the very LoRAs of a training that was not disturbed."""
    settings = {"spatial_steps": 20, "temporal_steps": 120, "preview_every": 0}
    whole = wan(run_name="fym whole", **settings)
    server.run(whole)
    expected = newest_lora(server, "wan motion temporal")
    graph = wan(run_name="fym cancelled", **settings)
    prompt = server.queue(graph)
    wait_for_step(server, "fym cancelled.temporal", 50)
    asked = time.monotonic()
    server.post("/interrupt")
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt)
    assert time.monotonic() - asked < 5
    server.run(graph)
    actual = newest_lora(server, "wan motion temporal")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)

    only(graph, TRAIN).update(resume="must resume", learning_rate=0.5)
    assert "lr 0.02 -> 0.5" in failed(server, graph).message


def test_a_longer_look_goes_on_and_the_motion_begins_anew_on_it(server):
    """The motion is learned on top of one look: that of another is kept, and is another run."""
    settings = {"run_name": "fym longer", "temporal_steps": 4, "preview_every": 0}
    server.run(wan(spatial_steps=4, **settings))
    server.run(wan(spatial_steps=6, resume="must resume", **settings))
    folder = server.base / "models" / "det_adapters"
    steps = {
        stage: sorted(int(p.name.split("-")[-1].split(".")[0]) for p in folder.glob(f"fym longer.{stage}.*"))
        for stage in ("spatial", "temporal")
    }
    assert steps == {"spatial": [4, 6], "temporal": [4, 4]}


def test_cancel_while_heads_are_classified(server):
    graph = wan(run_name="never trained")
    only(graph, HEADS).update({"draws": 100, "head_seed": 77})
    prompt = server.queue(graph)
    deadline = time.monotonic() + 60
    while not any(entry[1] == prompt for entry in server.get("/queue")["queue_running"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    server.post("/interrupt")
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt)
    server.run(wan())


def test_bad_input_is_refused_with_advice(server):
    error = failed(server, wan(sparse_frames=9))
    assert error.node == TRAIN and "a sparse set of 9 frames does not fit a clip of 3" in error.message
    error = failed(server, wan(resume="must resume", run_name="fym never"))
    assert error.node == TRAIN and "no saved run 'fym never'" in error.message

    graph = wan()  # the heads of another model
    other = {f"9{n}": node for n, node in workflow("fym_heads").items()}
    for node in other.values():
        node["inputs"] = {k: [f"9{v[0]}", v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()}
    only(graph, TRAIN)["heads"] = [next(n for n, node in other.items() if node["class_type"] == HEADS), 0]
    error = failed(server, graph | other)
    assert error.node == TRAIN and "this head map is of embedded" in error.message

    graph = wan()  # frames of another size than those that were encoded
    other = {"image": fitted(graph), "upscale_method": "bilinear", "width": 64, "height": 128, "crop": "disabled"}
    graph["other"] = {"class_type": "ImageScale", "inputs": other, "_meta": {"title": "another size"}}
    only(graph, TRAIN).update(frames=["other", 0], vae=only(graph, "VAEEncodeTiled")["vae"])
    error = failed(server, graph)
    assert error.node == TRAIN and "connect the very frames that you encode" in error.message

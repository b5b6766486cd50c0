"""A real server over HTTP: errors in ComfyUI's terms, Cancel, a crash during training, progress, many prompts."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest
import torch
from comfy_server import ComfyServer, PromptError
from conftest import COMFYUI, ROOT
from graphs import APPLY, LOAD, SAVE, TRAIN, failed, listening, nodes, only, training, wait_for_step, workflow

from det_core.media.video import read_video


def test_a_workflow_of_an_older_version_runs(server):
    """Inputs that were added later are optional: a graph saved without them means what it meant then."""
    graph = training()
    for name in ("blocks", "start_percent", "end_percent"):
        del only(graph, APPLY)[name]
    for name in ("mid_dim", "kernel_size", "preset", "frames"):
        del only(graph, TRAIN)[name]
    only(graph, TRAIN)["resume"] = False  # a switch, then
    del only(graph, SAVE)["caption"]
    server.run(graph)


# ------------------------------------------------------------------------- files, progress, cancel


def adapter_tensors(server, name: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(server.base / "models" / "det_adapters" / f"{name}.safetensors")


def test_a_saved_adapter_is_in_the_loader_at_once_and_equals_the_one_in_the_graph(server):
    graph = training()
    only(graph, SAVE)["name"] = "sub folder/at once"
    server.run(graph)
    again = copy.deepcopy(graph)
    (train_id,) = [k for k, n in graph.items() if n["class_type"] == TRAIN]
    again["90"] = {"class_type": LOAD, "inputs": {"name": "sub folder/at once.safetensors"}}
    only(again, APPLY)["adapter"] = ["90", 0]
    for key in [k for k, n in again.items() if n["class_type"] in (SAVE, "LossGraphNode")]:
        del again[key]
    del again[train_id]
    first = next(ui["images"][0] for k, ui in server.run(graph).items() if graph[k]["class_type"] == "SaveVideo")
    second = next(ui["images"][0] for k, ui in server.run(again).items() if again[k]["class_type"] == "SaveVideo")
    # The files differ in the workflow that ComfyUI writes into them; the pictures must not.
    assert torch.equal(read_video(server.file(first)).frames, read_video(server.file(second)).frames)


def test_names_that_are_taken_get_a_number(server):
    for seed, number in ((5, 1), (6, 2), (5, 2)):  # what is there already is not written again
        graph = training(train_seed=seed)
        only(graph, SAVE)["name"] = "twice"
        only(graph, TRAIN)["resume"] = "start anew"
        server.free()
        server.run(graph)
        assert len(list((server.base / "models" / "det_adapters").glob("twice*.safetensors"))) == number
    first, second = adapter_tensors(server, "twice"), adapter_tensors(server, "twice-2")
    assert not all(torch.equal(value, second[name]) for name, value in first.items())


def test_progress_and_previews_on_the_websocket(server):
    kinds, pictures, texts = [], 0, []
    with listening(server) as messages:
        prompt = server.queue(training(6, preview_every=3, train_seed=11))
        for message in messages:
            if isinstance(message, bytes):
                kind = int.from_bytes(message[:4], "big")
                pictures += kind in (1, 4)
                if kind == 3:
                    texts.append(message[8 + int.from_bytes(message[4:8], "big") :].decode())
                continue
            kinds.append(message["type"])
            if message["type"] in ("execution_success", "execution_error") and message["data"]["prompt_id"] == prompt:
                break
    assert kinds[-1] == "execution_success"
    assert "progress" in kinds and pictures >= 1
    assert any("of 6, loss " in t and " left" in t for t in texts), texts


def test_cancel_and_resume(server):
    whole = training(70, run_name="whole")
    only(whole, SAVE)["name"] = "whole"
    server.run(whole)
    graph = training(70, run_name="cancelled")
    only(graph, SAVE)["name"] = "cancelled"
    prompt = server.queue(graph)
    wait_for_step(server, "cancelled", 50)
    asked = time.monotonic()
    server.post("/interrupt")
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt)
    assert time.monotonic() - asked < 5
    server.run(training(3, run_name="next"))  # the next graph runs as if nothing had been
    server.run(graph)
    expected, actual = adapter_tensors(server, "whole"), adapter_tensors(server, "cancelled")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def own_server(base: Path, *arguments: str) -> ComfyServer:
    """Another server, not started yet, with what `training` needs."""
    from checkpoints import save_native, transformer
    from conftest import write_source_video

    own = ComfyServer(COMFYUI, ROOT, base, *arguments)
    save_native("wan", transformer("wan"), base / "models" / "diffusion_models" / "wan2.1_t2v_1.3B_fp16.safetensors")
    write_source_video(base / "input" / "source.mp4")
    return own


def test_a_server_killed_in_the_middle_of_training(server, tmp_path):
    """On a server of its own: kill -9 after step 50, start again, resume; the adapter is that of an undisturbed run."""
    own = own_server(tmp_path)
    graph = training(70, run_name="killed")
    only(graph, SAVE)["name"] = "killed"
    try:
        own.start()
        own.queue(graph)
        wait_for_step(own, "killed", 50)
        own.stop(kill=True)
        own.start()
        only(graph, TRAIN)["resume"] = "must resume"
        own.run(graph)
        actual = adapter_tensors(own, "killed")
    finally:
        own.stop()
    whole = training(70, run_name="whole")
    only(whole, SAVE)["name"] = "undisturbed"
    server.run(whole)
    expected = adapter_tensors(server, "undisturbed")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def embedded_training(steps: int, **changes) -> dict:
    """The embedded workflow as far as the saved adapter."""
    graph = workflow("transfer_embedded")
    only(graph, TRAIN).update(steps=steps, preview_every=0, **changes)
    (end,) = [key for key, node in graph.items() if node["class_type"] == SAVE]
    needed, todo = set(), [end]
    while todo:
        needed.add(key := todo.pop())
        todo += [value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)]
    return {key: node for key, node in graph.items() if key in needed}


def test_the_embedded_model_resumes_after_a_restart(server, tmp_path):
    """Its learning rate falls over its steps, so it is resumed with the number of steps that it began with."""
    graph = embedded_training(8, run_name="embedded restart")
    only(graph, SAVE)["name"] = "embedded restart"
    own = ComfyServer(COMFYUI, ROOT, tmp_path)
    try:
        own.start()
        with listening(own) as events:
            prompt = own.queue(graph)
            next(e for e in events if isinstance(e, dict) and e["type"] == "progress" and e["data"]["value"] >= 3)
            own.post("/interrupt")
        with pytest.raises(PromptError, match="interrupted"):
            own.wait(prompt)
        own.stop()
        own.start()
        only(graph, TRAIN)["resume"] = "must resume"
        longer = copy.deepcopy(graph)
        only(longer, TRAIN)["steps"] = 9
        assert "was started for 8 steps, over which the learning rate falls" in failed(own, longer).message
        own.run(graph)
        actual = adapter_tensors(own, "embedded restart")
    finally:
        own.stop()
    whole = embedded_training(8, run_name="embedded whole")
    only(whole, SAVE)["name"] = "embedded whole"
    server.run(whole)
    expected = adapter_tensors(server, "embedded whole")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_fifty_prompts_back_to_back(tmp_path):
    """Train, apply, sample, fifty times with other seeds: all succeed and memory stays.

    On a server that keeps the last prompt's outputs only: by default ComfyUI may keep those of earlier prompts, too."""
    own = own_server(tmp_path, "--cache-classic")
    memory = []
    try:
        own.start()
        for number in range(50):
            graph = training(5, train_seed=1000 + number, run_name="fifty")
            only(graph, SAVE)["overwrite"] = True
            only(graph, SAVE)["name"] = "fifty"
            for sampler in nodes(graph, "KSampler"):
                sampler["inputs"]["seed"] = number
            own.run(graph)
            memory.append(own.rss_mb())
    finally:
        own.stop()
    early, late = max(memory[10:20]), max(memory[40:])  # the allocator settles during the first ten
    print(f"resident memory after prompts 11 to 20: at most {early:.0f} MB, after 41 to 50: {late:.0f} MB")
    assert late < 1.05 * early


def test_start_up_is_quick_and_light(server):
    """Under 2 seconds, and without the libraries that only some nodes need."""
    log = server.log()
    line = next(x for x in log.splitlines() if "seconds:" in x and "ComfyUI-DeT" in x)
    assert float(line.split("seconds:")[0].split()[-1]) < 2.0
    assert "Error while calling comfy_entrypoint" not in log and "IMPORT FAILED" not in log

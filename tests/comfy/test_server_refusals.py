"""Bad input over HTTP: refused in ComfyUI's terms, on the node that is wrong."""

from __future__ import annotations

import pytest
from comfy_server import PromptError
from graphs import APPLY, LOAD, SAVE, TRAIN, failed, fitted, only, training

# ------------------------------------------------------------------------------------ bad input


def test_latents_that_do_not_fit(server):
    graph = training()
    only(graph, "DeTFitVideo")["length"] = 2
    error = failed(server, graph)
    assert error.node == "DeTFitVideo" and "2 frames are too few: wan takes 4k+1 frames" in error.message
    graph["90"] = {"class_type": "ImageFromBatch", "inputs": {"image": fitted(graph), "batch_index": 0, "length": 2}}
    only(graph, "VAEEncodeTiled")["pixels"] = ["90", 0]
    only(graph, "DeTFitVideo")["length"] = 9
    error = failed(server, graph)
    assert error.node == TRAIN and "one frame: motion needs a video" in error.message


def test_tracks_of_another_length(server):
    graph = training()
    graph["90"] = {"class_type": "ImageFromBatch", "inputs": {"image": fitted(graph), "batch_index": 0, "length": 7}}
    only(graph, "DeTTrackVideo")["frames"] = ["90", 0]
    error = failed(server, graph)
    assert error.node == TRAIN and "TRACKS have 7 frames, but 3 latent frames of wan come from 9" in error.message


def test_tracks_of_another_size(server):
    graph = training()
    graph["90"] = {"class_type": "DeTFitVideo", "inputs": {**only(graph, "DeTFitVideo"), "width": 128}}
    only(graph, "DeTTrackVideo")["frames"] = ["90", 0]
    error = failed(server, graph)
    assert (
        error.node == TRAIN
        and "TRACKS belong to a video of 128x64 pixels, the latents to one of 64x64" in error.message
    )


def test_an_adapter_of_another_model(server):
    graph = training()
    model = {
        "class_type": "DeTLoadDiT",
        "inputs": {"model_name": "hunyuan_video_t2v_720p_bf16.safetensors", "weight_dtype": "default"},
    }
    graph["90"] = model
    only(graph, APPLY)["model"] = ["90", 0]
    error = failed(server, graph)
    assert error.node == APPLY and "was made for wan" in error.message and "hunyuan_video" in error.message


@pytest.mark.parametrize(
    "blocks, message",
    {"3-99": "asks for block 99, but this model has blocks 0 to 3", "a-b": 'cannot read "a-b" as blocks'}.items(),
)
def test_blocks_that_do_not_exist(server, blocks, message):
    graph = training()
    only(graph, APPLY)["blocks"] = blocks
    error = failed(server, graph)
    assert error.node == APPLY and message in error.message


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "  ", "a\x00b"])
def test_names_that_leave_the_folder_are_refused_before_anything_runs(server, name):
    graph = training()
    only(graph, SAVE)["name"] = name
    with pytest.raises(PromptError, match="is not a name for a file: .* of models/det_adapters"):
        server.queue(graph)
    graph = training(run_name=name)
    with pytest.raises(PromptError, match="is not a name for a file: .* of models/det_adapters"):
        server.queue(graph)


def test_loader_refuses_what_it_did_not_list(server):
    graph = {
        "1": {"class_type": LOAD, "inputs": {"name": "../diffusers/CogVideoX-5b/transformer/config.json"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    with pytest.raises(PromptError, match="value_not_in_list"):
        server.queue(graph)


def test_a_corrupt_adapter_file(server):
    folder = server.base / "models" / "det_adapters"
    (folder / "corrupt.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header")
    graph = {
        "1": {"class_type": LOAD, "inputs": {"name": "corrupt.safetensors"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    error = failed(server, graph)
    assert error.node == LOAD and "corrupt.safetensors" in error.message and "\n" not in error.message


def test_a_file_that_is_no_model(server):
    graph = training()
    only(graph, "DeTLoadDiT")["model_name"] = "not_a_dit.safetensors"
    assert failed(server, graph).node == "DeTLoadDiT"


def test_cogvideox_of_the_stock_loader_is_refused_with_advice(server):
    graph = training()
    graph["90"] = {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "cogvideox_native.safetensors", "weight_dtype": "default"},
    }
    only(graph, TRAIN)["model"] = ["90", 0]
    error = failed(server, graph)
    assert error.node == TRAIN and "load the same file with Load DiT (DeT)" in error.message


def test_resume_without_a_run(server):
    error = failed(server, training(resume="must resume", run_name="never started"))
    assert error.node == TRAIN and "no saved run 'never started'" in error.message


def test_resume_with_other_settings(server):
    server.run(training(2, run_name="settings"))
    error = failed(server, training(4, run_name="settings", resume="must resume", learning_rate=0.02))
    assert error.node == TRAIN and "cannot resume" in error.message and "lr" in error.message
    error = failed(server, {**training(4, run_name="settings", resume="must resume"), **other_caption()})
    assert error.node == TRAIN and "'settings' learned from something else" in error.message


def other_caption() -> dict:
    """The text node of `training` that names the source, with other words."""
    graph = training()
    (key,) = [k for k, node in graph.items() if node["_meta"]["title"].startswith("Caption of the source")]
    graph[key]["inputs"]["text"] = "a dog runs on a beach"
    return {key: graph[key]}

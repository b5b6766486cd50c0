"""Graphs of the workflows made small, what they save, and a server that works on them."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import torch
from comfy_server import PromptError

API = Path(__file__).resolve().parents[2] / "workflows" / "api"


def workflow(name: str) -> dict:
    return json.loads((API / f"{name}.json").read_text(encoding="utf-8"))


def nodes(graph: dict, kind: str) -> list[dict]:
    return [node for node in graph.values() if node["class_type"] == kind]


def read_frames(path: Path) -> torch.Tensor:
    """(T, H, W, 3) in [0, 1]."""
    with av.open(str(path)) as container:
        return (
            torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]).float()
            / 255
        )


def saved_videos(server, graph: dict, outputs: dict) -> dict[str, torch.Tensor]:
    """Frames of every saved video by its filename prefix."""
    return {
        graph[node]["inputs"]["filename_prefix"]: read_frames(server.file(ui["images"][0]))
        for node, ui in outputs.items()
        if graph[node]["class_type"] == "SaveVideo"
    }


def sprite_fidelity(frames: torch.Tensor) -> float:
    """Motion fidelity of a generated clip against the path of the demo's sprite, read from its pixels."""
    from det_core.metrics import motion_fidelity
    from det_core.models.embedded.base_model import read_clip, sprite_path
    from det_core.models.embedded.demo import demo_clip

    reading = read_clip(frames)
    return (
        float(motion_fidelity(sprite_path(read_clip(demo_clip().frames)), sprite_path(reading)))
        if reading.seen.any()
        else 0.0
    )


def shrunk(graph: dict) -> dict:
    """The same wiring at a size that a CPU does in seconds, with stand-ins for text encoders and VAEs."""
    for node in graph.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in ("CLIPLoader", "DualCLIPLoader"):
            node |= {"class_type": "StandInClip", "inputs": {}}
        elif kind == "VAELoader":
            node |= {"class_type": "StandInVae", "inputs": {}}
        elif kind == "DeTFitVideo":
            inputs |= {"width": 64, "height": 64, "length": 17 if inputs["length"] == 51 else 9}
        elif kind == "KSampler":
            inputs |= {"steps": 2}
        elif kind == "DeTTrainMotionAdapter":
            inputs |= {"steps": 4, "preview_every": 2}
    return graph


TRAIN, APPLY, SAVE, LOAD = (
    "DeTTrainMotionAdapter",
    "DeTApplyMotionAdapter",
    "DeTSaveMotionAdapter",
    "DeTLoadMotionAdapter",
)


def training(steps: int = 3, **changes) -> dict:
    """A small graph: Wan in small, a video, training, sampling with the adapter, saving."""
    graph = shrunk(workflow("transfer_wan_2_1"))
    for node in graph.values():
        if node["class_type"] == TRAIN:
            node["inputs"] |= {"steps": steps, "learning_rate": 0.01, "preview_every": 0, **changes}
    return graph


def only(graph: dict, kind: str) -> dict:
    (node,) = nodes(graph, kind)
    return node["inputs"]


def fitted(graph: dict) -> list:
    """The link to the frames that the graph encodes."""
    return next([key, 0] for key, node in graph.items() if node["class_type"] == "DeTFitVideo")


def failed(server, graph: dict) -> PromptError:
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    return caught.value


@contextmanager
def listening(server):
    """The messages of the websocket as they come: dictionaries, or bytes for pictures and texts."""
    import websocket

    socket = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId={server.client}", timeout=120)

    def messages():
        while True:
            message = socket.recv()
            yield message if isinstance(message, bytes) else json.loads(message)

    try:
        yield messages()
    finally:
        socket.close()


def wait_for_step(server, run: str, step: int, timeout: float = 300) -> None:
    """Until the state of that step of a run is on the disk."""
    from det_core.training.state import TrainState

    folder = server.base / "models" / "det_adapters"
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if any(TrainState.load(path).step >= step for path in folder.glob(f"{run}.*-*.state.safetensors")):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{run} has not reached step {step}")

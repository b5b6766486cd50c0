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


def saved_videos(server, graph: dict, outputs: dict, kind: str = "SaveVideo") -> dict[str, torch.Tensor]:
    """Frames of every video that nodes of this class saved, by its filename prefix."""
    return {
        graph[node]["inputs"]["filename_prefix"]: read_frames(server.file(ui["images"][0]))
        for node, ui in outputs.items()
        if graph[node]["class_type"] == kind
    }


def compared(server, graph: dict, outputs: dict) -> dict[str, torch.Tensor]:
    """{source, without, with} of the one comparison of a graph on the embedded model, at its 64 pixels."""
    (frames,) = saved_videos(server, graph, outputs, "DeTCompareVideos").values()
    shown = [frames[:, -256:, left : left + 256] for left in range(0, frames.shape[2] - 255, 260)]
    small = [torch.nn.functional.avg_pool2d(panel.movedim(-1, 1), 4).movedim(1, -1) for panel in shown]
    return dict(zip(("source", "without", "with") if len(small) == 3 else ("source", "with"), small, strict=True))


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


def stand_in_for(inputs: dict) -> dict:
    """What a test has in place of a loader of text encoders or VAEs."""
    files = " ".join(value for value in inputs.values() if isinstance(value, str))
    family = "ltx" if "ltx" in files else "h3" if "minimax" in files else "plain"
    if "audio-vae" in files or "audio_vae" in files:
        return {"class_type": "StandInAudioVae", "inputs": {}}
    if "vae_name" in inputs:
        return {"class_type": "StandInVae", "inputs": {"family": family}}
    return {"class_type": "StandInClip", "inputs": {"width": {"ltx": 48, "h3": 40, "plain": 4096}[family]}}


def shrunk(graph: dict) -> dict:
    """The same wiring at a size that a CPU does in seconds, with stand-ins for text encoders and VAEs."""
    whole = {number for number, node in graph.items() if node["class_type"] == "CheckpointLoaderSimple"}
    for node in graph.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in ("CLIPLoader", "DualCLIPLoader", "VAELoader", "LTXAVTextEncoderLoader"):
            node |= stand_in_for(inputs)
        elif kind == "LTXVAudioVAELoader":
            node |= {"class_type": "StandInAudioVae", "inputs": {}}
        elif kind == "DeTFitVideo":
            length = {51: 17, 39: 5}.get(inputs["length"], 9)
            inputs |= {"width": 64, "height": 64, "length": length}
        elif kind == "KSampler":
            inputs |= {"steps": 2}
        elif kind == "DeTTrainMotionAdapter":
            inputs |= {"steps": 4, "preview_every": 2 if inputs["preview_every"] else 0}
    for node in graph.values():  # the checkpoint is read for its DiT; what else is in the real one stands beside it
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in whole and value[1] == 2:
                node["inputs"][name] = ["vae", 0]
    return {**graph, "vae": {"class_type": "StandInVae", "inputs": {"family": "ltx"}}} if whole else graph


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

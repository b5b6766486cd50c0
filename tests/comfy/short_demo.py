"""The embedded workflow with few steps of everything, and what its training says on the websocket."""

from __future__ import annotations

from graphs import TRAIN, listening, nodes, only, workflow

STEPS = 4


def demo(**changes) -> dict:
    """The embedded workflow, with few steps of everything."""
    graph = workflow("transfer_embedded")
    only(graph, TRAIN).update({"steps": STEPS, "preview_every": 2, **changes})
    for node in nodes(graph, "KSampler"):
        node["inputs"]["steps"] = 2
    return graph


def watched(server, graph: dict, stop_at: int | None = None) -> tuple[int, list[str]]:
    """Queue a graph: (training steps that it took, lines of text on the training node). stop_at: Cancel there."""
    (train,) = [key for key, node in graph.items() if node["class_type"] == TRAIN]
    steps, texts = 0, []
    with listening(server) as messages:
        prompt = server.queue(graph)
        for message in messages:
            if isinstance(message, bytes):
                if int.from_bytes(message[:4], "big") == 3:
                    length = int.from_bytes(message[4:8], "big")
                    if message[8 : 8 + length].decode() == train:
                        texts.append(message[8 + length :].decode())
                continue
            data = message["data"]
            if message["type"] == "progress" and data.get("node") == train:
                steps = max(steps, data["value"])
                if stop_at and steps >= stop_at:
                    server.post("/interrupt")
                    stop_at = None
            done = ("execution_success", "execution_error", "execution_interrupted")
            if message["type"] in done and data.get("prompt_id") == prompt:
                assert message["type"] != "execution_error", data
                return steps, texts

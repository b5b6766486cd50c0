"""A real server that is stopped at random moments: by Cancel, prompt after prompt, and by the end of its process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from comfy_server import ComfyServer, PromptError
from conftest import COMFYUI, ROOT
from graphs import SAVE, only
from safetensors.torch import load_file
from short_demo import STEPS, demo, watched


def named(run: str, seed: int) -> dict:
    """The embedded workflow under the name of a run; its latents are saved, too."""
    graph = demo(run_name=run, train_seed=seed)
    only(graph, SAVE).update(name=run, overwrite=True)
    for key, node in list(graph.items()):
        if node["class_type"] == "KSampler":
            inputs = {"samples": [key, 0], "filename_prefix": f"{run}-{key}"}
            graph[f"{key}-latents"] = {"class_type": "SaveLatent", "inputs": inputs, "_meta": {"title": "latents"}}
    return graph


def made(server: ComfyServer, run: str) -> dict[str, torch.Tensor]:
    """Every tensor that a run has written: of its adapter and of the latents it sampled."""
    adapter = server.base / "models" / "det_adapters" / f"{run}.safetensors"
    latents = sorted((server.base / "output").glob(f"{run}-*.latent"))
    assert len(latents) >= 2
    found = {f"adapter {name}": tensor for name, tensor in load_file(adapter).items()}
    for path in latents:
        found[path.name.removeprefix(run)] = load_file(path)["latent_tensor"]
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("cancels", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_a_row_of_cancelled_prompts_changes_nothing(tmp_path, cancels):
    """Each training is cancelled, goes on and is cancelled again, while it trains or samples; then the same prompt as
    before gives the same bits."""
    server, moment = ComfyServer(COMFYUI, ROOT, tmp_path), random.Random(0)
    try:
        server.start()
        server.run(named("warm", 1))
        started = time.monotonic()
        steps, _ = watched(server, named("before", 0))
        seconds = time.monotonic() - started
        before, interrupted = made(server, "before"), 0
        for number in range(cancels):
            prompt = server.queue(named("row", number // 2))
            time.sleep(moment.uniform(0, seconds))
            server.post("/interrupt")
            try:
                server.wait(prompt)
            except PromptError as error:
                assert error.message == "interrupted"
                interrupted += 1
        print(f"{interrupted} of {cancels} prompts were cancelled in time")
        assert interrupted >= cancels // 2
        again, _ = watched(server, named("after", 0))
        assert (steps, again) == (STEPS, STEPS), "both were trained, neither was loaded"
        assert same(before, made(server, "after"))
    finally:
        server.stop()


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_servers_lose_nothing(tmp_path, kills):
    script = Path(__file__).with_name("killed_servers.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, tmp_path / "servers", str(kills)]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    seen = json.loads(outcome.stdout.splitlines()[-1])
    assert seen["kills"] >= kills and not seen["faults"] and not seen["left"], seen

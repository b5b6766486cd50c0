"""What was learned is not learned again, and what differs is: steps are counted on the websocket of a real server."""

from __future__ import annotations

import copy

import pytest
from comfy_server import ComfyServer, PromptError
from conftest import COMFYUI, ROOT
from graphs import SAVE, TRAIN, listening, only
from short_demo import STEPS, demo, watched


def titled(graph: dict, title: str) -> dict:
    (node,) = [node for node in graph.values() if node["_meta"]["title"] == title]
    return node["inputs"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    running = ComfyServer(COMFYUI, ROOT, tmp_path_factory.mktemp("twice")).start()
    yield running
    running.stop()


def states(own) -> list[str]:
    return sorted(p.name for p in (own.base / "models" / "det_adapters").glob("*.state.safetensors"))


def test_what_does_not_concern_the_training_does_not_train_again(own):
    first = demo()
    only(first, SAVE).update(name="once", overwrite=False)
    steps, texts = watched(own, first)
    assert steps == STEPS
    assert any(text.startswith(f"{STEPS} steps, learning rate") and "GB" in text for text in texts), texts

    def loaded(graph: dict) -> bool:
        steps, texts = watched(own, graph)
        return steps == 0 and (not texts or any("already trained: 4 steps, loaded embedded demo." in t for t in texts))

    prompt, negative, interval = copy.deepcopy(first), copy.deepcopy(first), copy.deepcopy(first)
    titled(prompt, "Prompt")["text"] = "a cyan triangle on a maroon gradient background"
    titled(negative, "Negative prompt")["text"] = "a red circle"
    only(interval, TRAIN)["preview_every"] = 3
    assert loaded(prompt) and loaded(negative) and loaded(interval)

    own.run({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    })  # fmt: skip
    assert loaded(first), "another workflow in between"
    assert len(states(own)) == 1

    own.stop()
    own.start()
    assert loaded(first), "a restart"

    renumbered = {f"1{key}": node for key, node in copy.deepcopy(first).items()}
    for node in renumbered.values():
        node["inputs"] = {k: [f"1{v[0]}", v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()}
    assert loaded(renumbered), "the same in another workflow"
    assert [p.name for p in (own.base / "models" / "det_adapters").glob("once*")] == ["once.safetensors"]


def test_what_concerns_the_training_trains_and_destroys_nothing(own):
    watched(own, demo())
    clip, caption, setting = demo(), demo(), demo(learning_rate=0.002)
    only(clip, "DeTTinyClip")["clip_seed"] = 5
    titled(caption, "Caption of the source")["text"] = "a blue square on a navy plain background"
    before = len(states(own))
    for number, other in enumerate((clip, caption, setting, demo(train_seed=1), demo(mid_dim=8)), 1):
        assert watched(own, other)[0] == STEPS
        assert len(states(own)) == before + number
    assert watched(own, demo())[0] == 0, "the first one is still there"
    assert watched(own, demo(resume="start anew"))[0] == STEPS


def test_what_was_cancelled_goes_on(own):
    graph = demo(run_name="cancelled", steps=300, preview_every=0)
    stopped, texts = watched(own, graph, stop_at=2)
    kept = [text for text in texts if text.startswith("stopped at step ")]
    assert kept and kept[-1].endswith("of 300, kept; Run goes on from here (with resume auto)"), texts
    begun = int(kept[-1].split()[3])
    assert begun >= 2
    (train,) = [key for key, node in graph.items() if node["class_type"] == TRAIN]
    with listening(own) as messages:
        prompt = own.queue(graph)
        first = next(
            m["data"]["value"]
            for m in messages
            if isinstance(m, dict) and m["type"] == "progress" and m["data"]["node"] == train
        )
        own.post("/interrupt")
    with pytest.raises(PromptError, match="interrupted"):
        own.wait(prompt)
    assert first >= begun, "the steps before are not taken again"


@pytest.mark.parametrize("old", [False, True])
def test_the_switch_of_earlier_versions_means_what_it_meant(own, old):
    graph = demo(run_name=f"switch {old}", resume=old)
    for name in ("preset", "frames"):
        only(graph, TRAIN).pop(name, None)
    if old:
        with pytest.raises(PromptError, match="there is no saved run 'switch True' to resume"):
            own.run(graph)
        own.run(demo(run_name=f"switch {old}"))
        assert watched(own, graph)[0] == 0
    else:
        only(graph, SAVE)["name"] = "switch"
        assert watched(own, graph)[0] == STEPS
        own.free()
        assert watched(own, graph)[0] == STEPS


def test_presets_say_what_they_became(own):
    graph = demo(run_name="presets", preset="custom")
    with pytest.raises(PromptError, match="some are 0: set lr .the model's own"):
        own.run(graph)
    steps, texts = watched(own, demo(run_name="presets", preset="fast"))
    assert steps == STEPS and any("learning rate 0.02" in text for text in texts)
    with pytest.raises(PromptError, match="must resume"):
        own.queue(demo(resume="perhaps"))

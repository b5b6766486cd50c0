"""The words of a caption are found in the graph, and the template's own are not taken in silence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from graphs import shrunk, workflow


def graph(**more) -> dict:
    return {
        "1": {"inputs": {"caption": ["2", 0]}},
        "2": {"inputs": {"conditioning": ["3", 0], "guidance": 6.0}},
        "3": {"inputs": {"clip": ["9", 0], "text": ["4", 0]}},
        "4": {"inputs": {"value": " a dog on a lawn "}},
        **more,
    }


def words(prompt: dict | None) -> str:
    from det_pack.nodes._comfy.training.caption import caption_words

    return caption_words(SimpleNamespace(hidden=prompt and SimpleNamespace(prompt=prompt, unique_id="1")))


def test_words_are_found_through_other_nodes(pack):
    assert words(graph()) == "a dog on a lawn"


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        {},
        graph(**{"4": {"inputs": {"file": "caption.txt"}}}),
        graph(**{"3": {"inputs": {"text": ["2", 0]}}}),  # a circle
        graph(**{"4": {"inputs": {"value": 7}}}),
    ],
)
def test_what_the_graph_does_not_tell_is_empty(pack, prompt):
    assert words(prompt) == ""


@pytest.mark.parametrize("name", ["transfer_cogvideox_5b", "fym_wan_2_1"])
def test_the_templates_own_caption_is_noticed(pack, name):
    from det_pack.nodes._comfy.training.caption import caption_caution, caption_words

    prompt = workflow(name)
    kind = "FYMTrainMotionLoRA" if name.startswith("fym") else "DeTTrainMotionAdapter"
    (key,) = [key for key, node in prompt.items() if node["class_type"] == kind]
    found = caption_words(SimpleNamespace(hidden=SimpleNamespace(prompt=prompt, unique_id=key)))
    assert "YOUR clip" in caption_caution(found)
    assert caption_caution("a dog on a lawn") == caption_caution("") == ""


CAPTIONING = ("transfer_ltx_2_3", "transfer_ltx_2_5", "transfer_minimax_h3", "picture_ltx_2_3", "picture_minimax_h3")


@pytest.mark.parametrize("name", CAPTIONING)
def test_what_a_text_encoder_wrote_is_not_taken_for_the_question(pack, name):
    """By hand the words are known; by themselves only when it runs, and the stock caption is not in the file."""
    from det_pack.nodes._comfy.training.caption import STOCK, caption_words

    prompt = workflow(name)
    key = next(key for key, node in prompt.items() if node["class_type"] == "DeTTrainMotionAdapter")
    here = SimpleNamespace(hidden=SimpleNamespace(prompt=prompt, unique_id=key))
    (switch,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "ComfySwitchNode"]
    assert switch["switch"] is False and caption_words(here) == STOCK
    switch["switch"] = True
    assert caption_words(here) == ""
    switch["switch"] = [key, 0]  # only known when it runs
    assert caption_words(here) == ""


@pytest.mark.parametrize("name", CAPTIONING)
def test_a_clip_is_described_on_request_alone(server, name):
    """The text encoder is asked about the first frame of the clip, and its answer is what is encoded."""
    from det_pack.nodes._comfy.training.caption import STOCK

    graph = shrunk(workflow(name))
    (switch,) = [key for key, node in graph.items() if node["class_type"] == "ComfySwitchNode"]
    assert any([switch, 0] in node["inputs"].values() for node in graph.values())
    graph["shown"] = {"class_type": "PreviewAny", "inputs": {"source": [switch, 0]}}
    graph = {key: graph[key] for key in beneath(graph, "shown")}
    for automatic, expected in ((False, STOCK), (True, "seen in 1x64x64: Say in one short English sentence")):
        graph[switch]["inputs"]["switch"] = automatic
        (shown,) = server.run(graph)["shown"]["text"]
        assert shown.startswith(expected)


def beneath(graph: dict, key: str) -> set[str]:
    """A node and all that it needs."""
    links = [value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)]
    return {key}.union(*(beneath(graph, link) for link in links))

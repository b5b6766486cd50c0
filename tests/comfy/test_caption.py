"""The words of a caption are found in the graph, and the template's own are not taken in silence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from graphs import workflow


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

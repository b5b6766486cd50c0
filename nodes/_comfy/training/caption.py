"""The words behind a training node's caption, read from the graph that is executed."""

from __future__ import annotations

from comfy_api.latest import io

STOCK = "a woman in a red dress dances in a park"  # what the workflows come with
ON_THE_WAY = (
    "caption",
    "conditioning",
    "positive",
    "text",
    "prompt",
    "string",
    "value",
)  # inputs that lead to the words
FARTHEST = 12  # nodes that are followed

HIDDEN = [io.Hidden.prompt, io.Hidden.unique_id]  # what a node's schema must ask for


def caption_words(node: type[io.ComfyNode]) -> str:
    """The caption in words, "" where the graph does not tell: made by another node, loaded, no graph."""
    graph, here = (node.hidden.prompt, node.hidden.unique_id) if node.hidden else (None, None)
    graph, names = graph or {}, ("caption",)
    for _ in range(FARTHEST):
        inputs = graph.get(here, {}).get("inputs", {})
        value = next((inputs[name] for name in names if name in inputs), "")
        if not isinstance(value, list):
            return value.strip() if isinstance(value, str) else ""
        here, names = value[0], ON_THE_WAY
    return ""


def caption_caution(words: str) -> str:
    """What the artist should know of the caption, on a line of its own; "" where nothing is strange."""
    if words != STOCK:
        return ""
    return f'\nthe caption is still that of the template ("{STOCK}"): write what YOUR clip shows, subject and place'

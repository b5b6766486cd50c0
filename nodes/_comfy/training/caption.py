"""The words behind a training node's caption, read from the graph that is executed."""

from __future__ import annotations

from comfy_api.latest import io

STOCK = "a woman in a red dress dances in a park"  # what the workflows come with
WORDS = ("text", "string", "value")  # inputs that lead on to the words from a node that passes them on
ON_THE_WAY = ("caption", "conditioning", "positive", "prompt", *WORDS)  # from one that encodes them
FARTHEST = 12  # nodes that are followed

HIDDEN = [io.Hidden.prompt, io.Hidden.unique_id]  # what a node's schema must ask for


def caption_words(node: type[io.ComfyNode]) -> str:
    """The caption in words, "" where the graph does not tell: made by another node, loaded, no graph."""
    graph, here = (node.hidden.prompt, node.hidden.unique_id) if node.hidden else (None, None)
    graph, names = graph or {}, ("caption",)
    for _ in range(FARTHEST):
        inputs = graph.get(here, {}).get("inputs", {})
        if "on_false" in inputs:  # ComfyUI's switch
            names = {"True": ("on_true",), "False": ("on_false",)}.get(str(inputs.get("switch")), ())
        name = next((name for name in names if name in inputs), None)
        value = inputs.get(name, "")
        if not isinstance(value, list):
            return value.strip() if isinstance(value, str) else ""
        here, names = value[0], WORDS if name in (*WORDS, "prompt", "on_false", "on_true") else ON_THE_WAY
    return ""


def caption_caution(words: str) -> str:
    """What the artist should know of the caption, on a line of its own; "" where nothing is strange."""
    if words != STOCK:
        return ""
    return f'\nthe caption is still that of the template ("{STOCK}"): write what YOUR clip shows, subject and place'

"""Workflows of guidance: a motion without training."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph
from .parts import NEGATIVE, evaluate, sampler, save_video, text, tiny, tiny_source


def embedded(g: Graph) -> None:
    g.column()
    g.note("guidance")
    g.column("Source")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    g.column("Guide")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    empty = text(g, clip, NEGATIVE, "Empty prompt")
    given = {"model": model, "source": source.latents, "empty_prompt": empty}
    guided = g.add("DeTGuideMotion", None, **given, gradient_checkpointing=False)[0]
    samples = sampler(g, guided, prompt, empty, source.empty)
    g.column()
    video = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    save_video(g, video, 8.0, "det/embedded guided")
    evaluate(g, source.tracks, video, "Motion under guidance")


GUIDANCE_GRAPHS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "guide_embedded": ("DeT - a motion in seconds (embedded model)", embedded),
}

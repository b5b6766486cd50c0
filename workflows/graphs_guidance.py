"""Workflows of guidance: a motion without training."""

from __future__ import annotations

from collections.abc import Callable

from build import Graph, Out
from common import NEGATIVE, evaluate, sampler, save_video, text, tiny, tiny_latent, tiny_source


def guide(g: Graph, model: Out, source: Out, empty: Out, **changes) -> Out:
    settings = {
        "strength": 1.0,
        "guide_by": "features",
        "updates": 0,
        "end_percent": 0.2,
        "block": -1,
        "gradient_checkpointing": True,
    }
    inputs = {"model": model, "source": source, "empty_prompt": empty}
    return g.add("DeTGuideMotion", None, **inputs, **{**settings, **changes})[0]


def embedded(g: Graph) -> None:
    g.column()
    g.note(
        "## A motion in seconds\n\nPress **Run**. Nothing is trained: in the first fifth of the sampling the "
        "latents are moved until the model sees the loop of the red circle in them.\n\nFor a large model replace the "
        "first nodes by its loaders and encode your clip at the size and length of the video to be made. To keep the "
        "motion as a file, give it another size, or replay it often, train an adapter: the workflow *transfer motion* "
        "has the same sockets."
    )
    g.column("Source")
    model, clip, vae = tiny(g)
    tracks, latents, _ = tiny_source(g, vae, clip)
    g.column("Guide")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    empty = text(g, clip, NEGATIVE, "Empty prompt")
    guided = guide(g, model, latents, empty, gradient_checkpointing=False)
    samples = sampler(g, guided, prompt, empty, tiny_latent(g))
    g.column()
    video = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    save_video(g, video, 8.0, "det/embedded guided")
    evaluate(g, tracks, video, "Motion under guidance")


GUIDANCE_GRAPHS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "guide_embedded": ("DeT - a motion in seconds (embedded model)", embedded),
}

"""Beginning and end of the workflows over LTX-2, Wan 2.2 and MiniMax H3, which use the nodes of ComfyUI's own templates
for them. With `picture` the video starts from a picture of the user's, and the motion is learned so."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph, Inlet, Out
from .parts import WIDE, Source, compare, evaluate, own_video, save_video, train


def begun(
    g: Graph, note: str, size: tuple[int, int, int], loaders: Callable, name: str, picture: bool, tiled: bool = True
):
    """Note, loaders, source: (what the loaders give, by name, and the user's picture; the source)."""
    g.column()
    g.note(note, 330 if picture else 560)
    models = g.subgraph(name, loaders)
    made = dict(zip(g.nodes[-1].inner.outs, models, strict=True))
    if picture:
        made["picture"] = g.add("LoadImage", "Your picture", image="picture.png")[0]
    g.column("Source")
    return made, own_video(g, made["model"], made["vae"], size, tiled)


def ended(g: Graph, source: Source, result: Out, without: Out, video: Out, name: str) -> None:
    """What is seen and kept of the result."""
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, source.fps, f"det/{name} compared")
    save_video(g, video, f"det/{name}")
    evaluate(g, source.tracks, result, height=304)


def learned(g: Graph, model: Out, source: Source, caption: Out, run_name: str, **changes) -> Out:
    """The adapter of a source, whose rate it keeps. changes: further inputs of the training node, another latents."""
    given = {"latents": source.latents, "fps": source.fps, "preview_every": 0, **changes}
    latents, title = given.pop("latents"), given.pop("title", None)
    return train(g, model, latents, caption, source.tracks, title, run_name=run_name, **given)[0]


def first_frame(g: Graph, frames: Out | Inlet) -> Out:
    return g.add("ImageFromBatch", "First frame", image=frames, batch_index=0, length=1)[0]


def size_of(g: Graph, frames: Out | Inlet) -> dict[str, Out]:
    """Width, height and length of a video."""
    return dict(zip(("width", "height", "length"), g.add("GetImageSize", None, image=frames), strict=True))

"""Nodes that every workflow has, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Out

SOURCE_CAPTION = "a red circle on a navy plain background"
NEGATIVE = ""
QUIET = {"gradient_checkpointing": False, "preview_every": 0}  # for the small model, without samples


def text(g: Graph, clip: Out, words: str | Out, title: str) -> Out:
    return g.add("CLIPTextEncode", title, clip=clip, text=words)[0]


def train(g: Graph, model: Out, latents: Out, caption: Out, tracks: Out, **changes) -> tuple[Out, Out]:
    """(adapter, losses)."""
    given = {"model": model, "latents": latents, "caption": caption, "tracks": tracks}
    return tuple(g.add("DeTTrainMotionAdapter", None, **given, **changes))


def apply(g: Graph, model: Out, adapter: Out, title: str | None = None, **changes) -> Out:
    return g.add("DeTApplyMotionAdapter", title, model=model, adapter=adapter, **changes)[0]


def sampler(
    g: Graph, model: Out, positive: Out, negative: Out, latent: Out, title: str | None = None, **changes
) -> Out:
    settings = {"seed": 0, "steps": 20, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return g.add(
        "KSampler",
        title,
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        **{**settings, **changes},
    )[0]


def decode_tiled(g: Graph, samples: Out, vae: Out) -> Out:
    """Decode a large video in parts."""
    parts = {"tile_size": 256, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    return g.add("VAEDecodeTiled", None, samples=samples, vae=vae, **parts)[0]


def save_video(g: Graph, images: Out, fps: float | Out, prefix: str, title: str | None = None) -> None:
    video = g.add("CreateVideo", None, images=images, fps=fps, bit_depth=8)[0]
    g.add("SaveVideo", title, video=video, filename_prefix=prefix, format="mp4", format__codec="h264")


def evaluate(g: Graph, tracks: Out, frames: Out, title: str | None = None) -> Out:
    return g.add("DeTEvaluateMotion", title, source=tracks, generated=frames, background=frames)[1]


def tiny(g: Graph) -> tuple[Out, Out, Out]:
    return tuple(g.add("DeTTinyModel"))


@dataclass(frozen=True)
class Source:
    """A clip to learn from, and an empty latent of its size and length."""

    tracks: Out
    latents: Out
    caption: Out
    empty: Out


def tiny_source(g: Graph, model: Out, vae: Out, clip: Out, **changes) -> Source:
    frames, words = g.add("DeTTinyClip", None, **changes)
    frames, empty, _ = g.add("DeTFitVideo", None, model=model, frames=frames)
    tracks = g.add("DeTTrackVideo", None, frames=frames)[0]
    latents = g.add("VAEEncode", None, pixels=frames, vae=vae)[0]
    return Source(tracks, latents, text(g, clip, words, "Caption of the source"), empty)


@dataclass(frozen=True)
class OwnVideo:
    """A video of the user's, at a size and length that the model takes, and an empty latent of the same."""

    frames: Out
    tracks: Out
    latents: Out
    empty: Out
    fps: Out


def own_video(g: Graph, model: Out, vae: Out, width: int, height: int, length: int) -> OwnVideo:
    video = g.add("LoadVideo", "Source video", file="source.mp4")[0]
    images, _, own_fps, *_ = g.add("GetVideoComponents", None, video=video)
    size = {"width": width, "height": height, "length": length}
    frames, empty, fps = g.add("DeTFitVideo", "Size and length", model=model, frames=images, source_fps=own_fps, **size)
    tracks = g.add("DeTTrackVideo", None, frames=frames)[0]
    parts = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    latents = g.add("VAEEncodeTiled", None, pixels=frames, vae=vae, **parts)[0]
    return OwnVideo(frames, tracks, latents, empty, fps)


def tiny_latent(g: Graph) -> Out:
    """For a graph without a source clip."""
    title = "Empty latent: 33 gives 9 frames"
    return g.add("EmptyHunyuanLatentVideo", title, width=64, height=64, length=33, batch_size=1)[0]

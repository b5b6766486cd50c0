"""Nodes that every workflow has, with all their widgets."""

from __future__ import annotations

from build import Graph, Out

SOURCE_CAPTION = "a red circle on a navy plain background"
NEGATIVE = ""


def text(g: Graph, clip: Out, words: str | Out, title: str) -> Out:
    return g.add("CLIPTextEncode", title, clip=clip, text=words)[0]


def train(g: Graph, model: Out, latents: Out, caption: Out, tracks: Out, **changes) -> tuple[Out, Out]:
    settings = {
        "steps": 0,
        "learning_rate": 0.0,
        "tracking_weight": 0.1,
        "train_seed": 0,
        "run_name": "my motion",
        "resume": False,
        "gradient_checkpointing": True,
        "preview_every": 100,
        "mid_dim": 0,
        "kernel_size": 0,
    }
    title = changes.pop("title", None)
    adapter, losses = g.add(
        "DeTTrainMotionAdapter",
        title,
        model=model,
        latents=latents,
        caption=caption,
        tracks=tracks,
        **{**settings, **changes},
    )
    return adapter, losses


def apply(g: Graph, model: Out, adapter: Out, title: str | None = None, **changes) -> Out:
    settings = {"strength": 1.0, "drop_fraction": -1.0, "blocks": "", "start_percent": 0.0, "end_percent": 1.0}
    return g.add("DeTApplyMotionAdapter", title, model=model, adapter=adapter, **{**settings, **changes})[0]


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
    return g.add("DeTEvaluateMotion", title, source=tracks, generated=frames, variant="hybrid", background=frames)[1]


def tiny(g: Graph) -> tuple[Out, Out, Out]:
    return tuple(g.add("DeTTinyModel"))


def tiny_source(g: Graph, vae: Out, clip: Out, **changes) -> tuple[Out, Out, Out]:
    """(tracks, latents, caption) of a source clip."""
    settings = {
        "motion": "loop",
        "colour": "red",
        "shape": "circle",
        "background": "navy",
        "pattern": "plain",
        "clip_seed": 29,
    }
    frames, words = g.add("DeTTinyClip", None, **{**settings, **changes})
    tracks = g.add("DeTTrackVideo", None, frames=frames, points=100, tracker="auto", point_seed=0)[0]
    latents = g.add("VAEEncode", None, pixels=frames, vae=vae)[0]
    return tracks, latents, text(g, clip, words, "Caption of the source")


def tiny_latent(g: Graph) -> Out:
    return g.add(
        "EmptyHunyuanLatentVideo", "Empty latent: 33 gives 9 frames", width=64, height=64, length=33, batch_size=1
    )[0]

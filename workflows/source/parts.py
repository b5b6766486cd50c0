"""Nodes that every workflow has, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Inlet, Out, Shown

SOURCE_CAPTION = "a red circle on a navy plain background"
NEGATIVE = ""
QUIET = {"gradient_checkpointing": False, "preview_every": 0}  # for the small model, without samples
EULER = {"sampler_name": "euler", "scheduler": "simple"}
DESCRIBE = (
    "Say in one short English sentence what this picture shows: the subject and the place. Nothing about movement, "
    "camera, mood or style."
)
GREEDY = {
    "temperature": 1.0,
    "top_k": 1,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "seed": 0,
    "presence_penalty": 0.0,
}
WIDE = 420  # pixels; the column of the results


def text(g: Graph, clip: Out, words: str | Out, title: str) -> Out:
    return g.add("CLIPTextEncode", title, clip=clip, text=words)[0]


def caption_words(s: Graph, clip: Out | Inlet, frames: Out | Inlet, words: str) -> Out:
    """The words of a caption: the user's, or with the switch on what a text encoder that can see says of the clip's
    first frame. The switch is lazy: off, nothing is generated."""
    first = s.add("ImageFromBatch", "First frame", image=frames, batch_index=0, length=1)[0]
    how = {f"sampling_mode__{name}": value for name, value in GREEDY.items()}
    given = {"clip": clip, "prompt": DESCRIBE, "image": first, "max_length": 60, "sampling_mode": "on", **how}
    described = s.add("TextGenerate", "Describe the first frame", **given)[0]
    own = s.add("PrimitiveStringMultiline", "By hand", value=Shown("caption", words))[0]
    either = {"switch": Shown("automatic", False), "on_false": own, "on_true": described}
    return s.add("ComfySwitchNode", "By hand, or automatic", **either)[0]


def train(g: Graph, model: Out, latents: Out, caption: Out, tracks: Out, title: str | None = None, **changes):
    """(adapter, losses)."""
    given = {"model": model, "latents": latents, "caption": caption, "tracks": tracks}
    return tuple(g.add("DeTTrainMotionAdapter", title or "Learn the motion", **given, **changes))


def apply(g: Graph, model: Out, adapter: Out, title: str = "Put the motion on", **changes) -> Out:
    return g.add("DeTApplyMotionAdapter", title, model=model, adapter=adapter, **changes)[0]


def guide(g: Graph, model: Out, latents: Out, empty: Out, **changes) -> Out:
    """Guidance by the source's latents; empty: an encoded empty prompt."""
    given = {"model": model, "source": latents, "empty_prompt": empty}
    return g.add("DeTGuideMotion", "Guide by the motion", **given, **changes)[0]


def sampled(g: Graph, model: Out, positive: Out, negative: Out, latent: Out, vae: Out, tiled: bool = False, **changes):
    """Frames. changes: settings of KSampler."""
    settings = {"seed": 0, "steps": 20, "cfg": 3.0, **EULER, "denoise": 1.0, **changes}
    given = {"positive": positive, "negative": negative, "latent_image": latent}
    samples = g.add("KSampler", None, model=model, **given, **settings)[0]
    return decode_tiled(g, samples, vae) if tiled else g.add("VAEDecode", None, samples=samples, vae=vae)[0]


def decode_tiled(g: Graph, samples: Out, vae: Out) -> Out:
    """Decode a large video in parts."""
    parts = {"tile_size": 256, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    return g.add("VAEDecodeTiled", None, samples=samples, vae=vae, **parts)[0]


def with_and_without(
    g: Graph,
    models: tuple[Out, Out],
    words: tuple[Out, Out],
    latent: Out,
    vae: Out,
    fps: Out | None = None,
    shift: float | None = None,
    **settings,
) -> list[Out]:
    """Frames with the adapter and without, of one seed; with `fps` the former as a video, too.

    models: without, with. words: prompt, negative. settings: of KSampler, and `tiled`.
    """
    settings = {"steps": 20, "cfg": 3.0, **settings}
    shared = {name: Shown(name, settings.pop(name)) for name in ("steps", "cfg")} | {"seed": Shown("seed", 0)}

    def both(s: Graph, model, moved, prompt, negative, latent, vae, **rate) -> dict[str, Out]:
        made = {}
        for name, each in (("without", model), ("with", moved)):
            if shift:
                each = s.add("ModelSamplingSD3", None, model=each, shift=Shown("shift", shift))[0]
            made[name] = sampled(s, each, prompt, negative, latent, vae, **settings, **shared)
            s.column()
        return {"with": made["with"], "without": made["without"], **video_of(s, made["with"], **rate)}

    rate = {"fps": fps} if fps else {}
    given = dict(zip(("model", "moved", "prompt", "negative"), (*models, *words), strict=True))
    return g.subgraph("Sample with and without", both, **given, latent=latent, vae=vae, **rate)


def video_of(g: Graph, images: Out, fps: Out | float | None = None, audio: Out | None = None) -> dict[str, Out]:
    """A video of the frames, if their rate is known."""
    sound = {"audio": audio} if audio else {}
    given = {"images": images, "fps": fps, "bit_depth": 8, **sound}
    return {"video": g.add("CreateVideo", None, **given)[0]} if fps else {}


def compare(g: Graph, source: Out, moved: Out, without: Out | None, fps: float | Out, prefix: str, **changes) -> None:
    """Side by side; it is saved, and is what the job list shows of the run."""
    rest = {} if without is None else {"without_motion": without}
    title = "Source, without, with" if rest else "Source, with"
    given = {"source": source, "with_motion": moved, "fps": fps, "filename_prefix": prefix}
    g.add("DeTCompareVideos", title, **given, **rest, **changes)


def save_video(g: Graph, video: Out, prefix: str, title: str = "Your video", tall: int | None = None) -> None:
    g.add("SaveVideo", title, tall, video=video, filename_prefix=prefix, format="mp4", format__codec="h264")


def evaluate(
    g: Graph, tracks: Out, frames: Out, title: str = "How close is the motion?", height: int | None = None
) -> None:
    g.add("DeTEvaluateMotion", title, height, source=tracks, generated=frames, background=frames)


def save_adapter(g: Graph, adapter: Out, drawn: Out | Inlet, name: str, caption: str = "", overwrite: bool = False):
    """drawn: the source with its tracks, the picture in the file."""
    given = {"adapter": adapter, "preview": drawn, "name": name, "overwrite": overwrite, "caption": caption}
    g.add("DeTSaveMotionAdapter", "Keep the motion", **given)


def tiny(g: Graph, **changes) -> tuple[Out, Out, Out]:
    return tuple(g.add("DeTTinyModel", None, **changes))


def tiny_latent(g: Graph, title: str = "Empty latent: 33 gives 9 frames", width: int = 64) -> Out:
    """For a sampling of the embedded model that has no source beside it."""
    return g.add("EmptyHunyuanLatentVideo", title, width=width, height=64, length=33, batch_size=1)[0]


@dataclass(frozen=True)
class Source:
    """A clip to learn from, and an empty latent of its size and length. fps: of a video, from its file."""

    frames: Out
    tracks: Out
    drawn: Out  # the frames with the tracks on them
    latents: Out
    empty: Out
    fps: Out | None = None
    caption: Out | None = None


def tiny_source(g: Graph, model: Out, vae: Out, clip: Out, title: str = "Source clip", **changes) -> Source:
    """A clip that is drawn, its tracks, latents and caption."""
    frames, words = g.add("DeTTinyClip", title, **changes)

    def encoded(s: Graph, model, clip, vae, frames, words) -> dict[str, Out]:
        frames, empty, _ = s.add("DeTFitVideo", None, model=model, frames=frames)
        latents = s.add("VAEEncode", None, pixels=frames, vae=vae)[0]
        s.column()
        caption = text(s, clip, words, "Caption of the source")
        return {"frames": frames, "latents": latents, "caption": caption, "empty latent": empty}

    given = {"model": model, "clip": clip, "vae": vae, "frames": frames, "words": words}
    frames, latents, caption, empty = g.subgraph("Encode the clip", encoded, **given)
    tracks, drawn = g.add("DeTTrackVideo", "What moves", 500, frames=frames)
    return Source(frames, tracks, drawn, latents, empty, caption=caption)


def own_video(g: Graph, model: Out, vae: Out, size: tuple[int, int, int], tiled: bool = True) -> Source:
    """A video of the user's at a size and length that the model takes. size: width, height, frames."""
    video = g.add("LoadVideo", "Source video", file="source.mp4")[0]
    width, height, length = (Shown(n, v) for n, v in zip(("width", "height", "length"), size, strict=True))

    def fitted(s: Graph, video, model, vae) -> dict[str, Out]:
        images, _, own_fps, *_ = s.add("GetVideoComponents", None, video=video)
        given = {"width": width, "height": height, "length": length, "fit": Shown("fit", "crop")}
        given |= {"source_fps": own_fps, "longer": Shown("longer", "cut")}
        frames, empty, fps = s.add("DeTFitVideo", None, model=model, frames=images, **given)
        s.column()
        if tiled:
            parts = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
            latents = s.add("VAEEncodeTiled", None, pixels=frames, vae=vae, **parts)[0]
        else:
            latents = s.add("VAEEncode", None, pixels=frames, vae=vae)[0]
        return {"frames": frames, "latents": latents, "empty latent": empty, "fps": fps}

    frames, latents, empty, fps = g.subgraph("Size and length", fitted, video=video, model=model, vae=vae)
    tracks, drawn = g.add("DeTTrackVideo", "What moves", frames=frames)
    return Source(frames, tracks, drawn, latents, empty, fps)

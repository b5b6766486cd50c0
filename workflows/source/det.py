"""The workflows on the embedded model, which need no download. Core nodes wherever they exist; the pack's own for what
is new."""

from __future__ import annotations

from .graph import Graph, Out, Shown
from .parts import (
    NEGATIVE,
    QUIET,
    SOURCE_CAPTION,
    WIDE,
    apply,
    compare,
    evaluate,
    guide,
    sampled,
    save_adapter,
    save_video,
    text,
    tiny,
    tiny_latent,
    tiny_source,
    train,
    video_of,
    with_and_without,
)


def embedded(g: Graph) -> None:
    g.column()
    g.note("embedded", 400)
    model, clip, vae = tiny(g)
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    g.column("Learn")
    adapter, _ = train(
        g,
        model,
        source.latents,
        source.caption,
        source.tracks,
        run_name="embedded demo",
        gradient_checkpointing=False,
        vae=vae,
        preview_prompt=prompt,
        preview_every=150,
        tall=1000,
    )
    g.column("Replay")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    moved = apply(g, model, adapter)
    result, without = with_and_without(g, (model, moved), (prompt, negative), source.empty, vae)
    save_adapter(g, adapter, source.drawn, "embedded demo", SOURCE_CAPTION, overwrite=True)
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, 8.0, "det/embedded compared")
    evaluate(g, source.tracks, result)


def picture(g: Graph) -> None:
    """On the small world: the motion is learned with the source's first frame given and begins with another picture."""
    g.column()
    g.note("embedded_picture", 400)
    model, clip, vae = tiny(g, knows="small world")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    drawn = {"shape": "square", "pattern": "checkered"}  # a pattern that shows how the camera moves
    yours = {"motion": "breathe", "colour": "yellow", "background": "purple"}
    other, words = g.add("DeTTinyClip", "Your picture is its first frame", **drawn, **yours)
    g.column("Source")
    drawn |= {"motion": "orbit", "colour": "green", "background": "teal"}
    source = tiny_source(g, model, vae, clip, **drawn)

    def begins(s: Graph, words, negative, vae, frames) -> dict[str, Out]:
        first = s.add("ImageFromBatch", None, image=frames, batch_index=0, length=1)[0]
        s.column()
        given = {"positive": words, "negative": negative, "vae": vae, "pixels": first}
        positive, negative, _ = s.add("InstructPixToPixConditioning", None, **given)
        return {"words": positive, "negative": negative}

    def beginning(name: str, words: Out, frames: Out) -> list[Out]:
        return g.subgraph(name, begins, words=words, negative=negative, vae=vae, frames=frames)

    g.column("Learn")
    caption, _ = beginning("The source begins so", source.caption, source.frames)
    run = {"run_name": "picture", "preset": "fast", **QUIET}
    adapter, _ = train(g, model, source.latents, caption, source.tracks, **run)
    g.column("Replay")
    prompt = text(g, clip, words, "Prompt")
    moved = apply(g, model, adapter)
    given = beginning("Begin with your picture", prompt, other)
    result, without = with_and_without(g, (model, moved), given, source.empty, vae)
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, 8.0, "det/embedded picture")
    evaluate(g, source.tracks, result)


def reuse(g: Graph) -> None:
    g.column()
    g.note("reuse", 330)
    g.column("Load")
    model, clip, vae = tiny(g)
    adapter = g.add("DeTLoadMotionAdapter", None, name="embedded demo.safetensors")[0]
    moved = apply(g, model, adapter)
    g.column("Sample")
    prompt = text(g, clip, "a yellow square on a purple checkered background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    result = sampled(g, moved, prompt, negative, tiny_latent(g), vae)
    g.column("Result", WIDE)
    save_video(g, video_of(g, result, 8.0)["video"], "det/reuse")


def learnt(g: Graph, name: str, model: Out, clip: Out, vae: Out, run_name: str, **changes) -> tuple[Out, Out, Out]:
    """(adapter, tracks, frames) of a drawn clip, learned inside a subgraph that shows its motion and its shape."""
    drawn = {"motion": "loop", "shape": "circle", **changes}
    shown = {key: Shown(key, drawn.pop(key)) for key in ("motion", "shape")}

    def inside(s: Graph, model, clip, vae) -> dict[str, Out]:
        source = tiny_source(s, model, vae, clip, **shown, **drawn)
        s.column()
        adapter, _ = train(s, model, source.latents, source.caption, source.tracks, run_name=run_name, **QUIET)
        return {"adapter": adapter, "tracks": source.tracks, "frames": source.frames}

    return tuple(g.subgraph(name, inside, model=model, clip=clip, vae=vae))


def combine(g: Graph) -> None:
    g.column()
    g.note("combine", 330)
    model, clip, vae = tiny(g)
    g.column("Two motions")
    first, tracks, frames = learnt(g, "Learn a loop", model, clip, vae, "combine loop")
    drawn = {"motion": "arc", "shape": "square", "colour": "blue", "background": "olive", "clip_seed": 3}
    second, other, _ = learnt(g, "Learn an arc", model, clip, vae, "combine arc", **drawn)
    moved = apply(g, model, first, "First motion", strength=0.6)
    both = apply(g, moved, second, "Second motion", strength=0.6)
    g.column("Both in one video")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    result, without = with_and_without(g, (model, both), (prompt, negative), tiny_latent(g), vae)
    g.column("Result", WIDE)
    compare(g, frames, result, without, 8.0, "det/combined")
    g.column()
    evaluate(g, tracks, result, "Against the first motion")
    evaluate(g, other, result, "Against the second motion")


def halves(s: Graph) -> dict[str, Out]:
    """Masks of the left and of the right half of a picture of 160x64."""
    nothing = s.add("SolidMask", "The whole picture, black", value=0.0, width=160, height=64)[0]
    half = s.add("SolidMask", "A half, white", value=1.0, width=80, height=64)[0]
    left = s.add("MaskComposite", "Left", destination=nothing, source=half, x=0, y=0, operation="add")[0]
    return {"left": left, "right": s.add("InvertMask", "Right", mask=left)[0]}


def regions(g: Graph) -> None:
    """Two motions in one picture, each in its half."""
    g.column()
    g.note("regions", 330)
    model, clip, vae = tiny(g)
    g.column("Two motions")
    first, _, frames = learnt(g, "Learn an arc", model, clip, vae, "an arc", motion="arc")
    second, *_ = learnt(g, "Learn an arc back", model, clip, vae, "an arc back", motion="arc", clip_seed=11)
    left, right = g.subgraph("Left and right", halves)
    g.column("Two places")
    moved = apply(g, model, first, "The arc, on the left", mask=left, drop_fraction=0.0)
    both = apply(g, moved, second, "The arc back, on the right", mask=right, drop_fraction=0.0)
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    g.column("One video")
    latent = tiny_latent(g, "Empty latent, a wide one", width=160)
    result, without = with_and_without(g, (model, both), (prompt, negative), latent, vae)
    g.column("Result", WIDE)
    compare(g, frames, result, without, 8.0, "det/two regions")


DROPS = (0.0, 0.35, 0.65)


def drops(g: Graph) -> None:
    g.column()
    g.note("compare", 260)
    model, clip, vae = tiny(g)
    prompt = text(g, clip, "a cyan triangle on a maroon gradient background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    adapter, tracks, _ = learnt(g, "Learn a motion", model, clip, vae, "compare")
    g.column("Drop 0, 0.35, 0.65 of the blocks")
    moved = {f"drop {drop:g}": apply(g, model, adapter, f"Drop {drop:g}", drop_fraction=drop) for drop in DROPS}
    g.column("Side by side", WIDE)

    def inside(s: Graph, prompt, negative, latent, vae, **models) -> dict[str, Out]:
        frames = {}
        for name, each in models.items():
            frames[name] = sampled(s, each, prompt, negative, latent, vae, seed=Shown("seed", 0))
            s.column()
        row, *others = frames.values()
        for other in others:
            how = {"direction": "right", "match_image_size": True, "spacing_width": 2, "spacing_color": "white"}
            row = s.add("ImageStitch", None, image1=row, image2=other, **how)[0]
        return {**frames, **video_of(s, row, 8.0)}

    given = {"prompt": prompt, "negative": negative, "latent": tiny_latent(g), "vae": vae}
    *frames, video = g.subgraph("Sample all three", inside, **given, **moved)
    save_video(g, video, "det/drop fractions", "Drop 0, 0.35, 0.65")
    g.column()
    for name, images in zip(moved, frames, strict=True):
        evaluate(g, tracks, images, f"Motion, {name}", height=320)


def in_seconds(g: Graph) -> None:
    """Guidance: a motion without training."""
    g.column()
    g.note("guidance", 240)
    model, clip, vae = tiny(g)
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    g.column("Guide")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    empty = text(g, clip, NEGATIVE, "Empty prompt")
    guided = guide(g, model, source.latents, empty, gradient_checkpointing=False)
    result, without = with_and_without(g, (model, guided), (prompt, empty), source.empty, vae)
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, 8.0, "det/embedded guided")
    evaluate(g, source.tracks, result, "Motion under guidance")


def try_first(g: Graph) -> None:
    """Guidance shows what a source is worth; a switch then has the same source learned instead."""
    g.column()
    g.note("try_first", 330)
    model, clip, vae = tiny(g)
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    empty = text(g, clip, NEGATIVE, "Empty prompt")
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    g.column("Try, and learn")
    guided = guide(g, model, source.latents, empty, gradient_checkpointing=False)
    given = {"run_name": "try first", **QUIET, "tall": 610}
    adapter, _ = train(g, model, source.latents, source.caption, source.tracks, **given)
    g.column("Replay")
    moved = apply(g, model, adapter)
    chosen = g.add("ComfySwitchNode", "Learn it?", on_false=guided, on_true=moved, switch=False)[0]
    result, without = with_and_without(g, (model, chosen), (prompt, empty), source.empty, vae)
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, 8.0, "det/tried first")
    evaluate(g, source.tracks, result)

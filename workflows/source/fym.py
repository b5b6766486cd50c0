"""The workflows of Follow-Your-Motion: two LoRAs from one clip, alone and beside DeT; the head map as a picture."""

from __future__ import annotations

from .graph import Graph, Out, Shown
from .large_models import WAN_LOADERS, loaded
from .parts import (
    NEGATIVE,
    QUIET,
    WIDE,
    apply,
    compare,
    evaluate,
    own_video,
    sampled,
    text,
    tiny,
    tiny_source,
    train,
    with_and_without,
)

PROMPT = "a green star on a teal striped background"


def classify(g: Graph, model: Out, latents: Out, caption: Out, title: str | None = None, **changes) -> tuple[Out, Out]:
    """(heads, picture)."""
    return tuple(g.add("FYMClassifyHeads", title, model=model, latents=latents, caption=caption, **changes))


def train_loras(g: Graph, model: Out, latents: Out, caption: Out, heads: Out, **changes) -> tuple[Out, Out, Out]:
    """(spatial LoRA, temporal LoRA, losses)."""
    given = {"model": model, "latents": latents, "caption": caption, "heads": heads}
    return tuple(g.add("FYMTrainMotionLoRA", "Learn the motion", **given, **changes))


def with_lora(g: Graph, model: Out, lora: Out, strength: float | Shown, title: str) -> Out:
    return g.add("LoraModelLoader", title, model=model, lora=lora, strength_model=strength, bypass=False)[0]


def put_on(g: Graph, model: Out, spatial: Out, temporal: Out) -> Out:
    """Both LoRAs on the MODEL: the motion whole, the look of the source not at all."""

    def both(s: Graph, model, spatial, temporal) -> dict[str, Out]:
        looked = with_lora(s, model, spatial, Shown("look", 0.0), "The look: 0 for a new subject")
        return {"moved model": with_lora(s, looked, temporal, Shown("motion", 1.0), "The motion")}

    return g.subgraph("Put the motion on", both, model=model, spatial=spatial, temporal=temporal)[0]


def save_loras(g: Graph, spatial: Out, temporal: Out, name: str) -> None:
    g.add("FYMSaveMotionLoRA", "Keep the look", lora=spatial, name=f"{name} spatial")
    g.add("FYMSaveMotionLoRA", "Keep the motion", lora=temporal, name=f"{name} temporal")


def fym_embedded(g: Graph) -> None:
    g.column()
    g.note("fym_embedded", 420)
    model, clip, vae = tiny(g)
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    g.column("Learn")
    heads, _ = classify(g, model, source.latents, source.caption, tall=230)
    spatial, temporal, _ = train_loras(
        g,
        model,
        source.latents,
        source.caption,
        heads,
        run_name="embedded demo lora",
        gradient_checkpointing=False,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.column("Replay")
    moved = put_on(g, model, spatial, temporal)
    result, without = with_and_without(g, (model, moved), (prompt, negative), source.empty, vae)
    save_loras(g, spatial, temporal, "embedded demo")
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, 8.0, "det/fym compared")
    evaluate(g, source.tracks, result)


def fym_wan(g: Graph) -> None:
    g.column()
    g.note("fym_wan", 420)
    model, clip, vae = loaded(g, WAN_LOADERS)
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    caption = text(g, clip, "a woman in a red dress dances in a park", "Caption of the source")
    g.column("Source")
    source = own_video(g, model, vae, (832, 480, 81))
    g.column("Learn")
    heads, _ = classify(g, model, source.latents, caption, tall=230)
    given = {"run_name": "wan motion lora", "preview_every": 0, "frames": source.frames, "vae": vae}
    spatial, temporal, _ = train_loras(g, model, source.latents, caption, heads, **given)
    g.column("Replay")
    prompt = text(g, clip, "an astronaut in a white suit on the moon", "Prompt")
    moved = put_on(g, model, spatial, temporal)
    settings = {"shift": 5.0, "steps": 30, "cfg": 5.0, "tiled": True}
    result, without = with_and_without(g, (model, moved), (prompt, negative), source.empty, vae, **settings)
    save_loras(g, spatial, temporal, "wan motion")
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, source.fps, "det/wan motion lora")
    evaluate(g, source.tracks, result)


def fym_and_det(g: Graph) -> None:
    g.column()
    g.note("fym_and_det", 300)
    model, clip, vae = tiny(g)
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    g.column("Learn it twice")

    def learnt(s: Graph, model, latents, caption, tracks) -> dict[str, Out]:
        adapter, _ = train(s, model, latents, caption, tracks, run_name="both det", **QUIET)
        s.column()
        heads, _ = classify(s, model, latents, caption)
        s.column()
        _, temporal, _ = train_loras(s, model, latents, caption, heads, run_name="both fym", **QUIET)
        return {"adapter": adapter, "motion LoRA": temporal}

    given = {"model": model, "latents": source.latents, "caption": source.caption, "tracks": source.tracks}
    adapter, temporal = g.subgraph("Learn with both methods", learnt, **given)
    models = {
        "DeT": apply(g, model, adapter, "DeT alone"),
        "FYM": with_lora(g, model, temporal, 1.0, "Follow-Your-Motion alone"),
        "both": apply(g, with_lora(g, model, temporal, 0.6, "Both: the LoRA"), adapter, "Both: DeT", strength=0.6),
    }
    g.column("DeT, Follow-Your-Motion, both", WIDE)

    def inside(s: Graph, prompt, negative, latent, vae, **models) -> dict[str, Out]:
        frames = {}
        for name, each in models.items():
            frames[name] = sampled(s, each, prompt, negative, latent, vae, seed=Shown("seed", 0))
            s.column()
        return frames

    given = {"prompt": prompt, "negative": negative, "latent": source.empty, "vae": vae}
    frames = dict(zip(models, g.subgraph("Sample all three", inside, **given, **models), strict=True))
    for name, images in frames.items():
        g.add(
            "DeTCompareVideos",
            name,
            240,
            source=source.frames,
            with_motion=images,
            fps=8.0,
            filename_prefix=f"det/one clip {name}",
        )
    g.column()
    for name, images in frames.items():
        evaluate(g, source.tracks, images, f"Motion, {name}", height=320)


def fym_heads(g: Graph) -> None:
    g.column()
    g.note("fym_heads", 380)
    model, clip, vae = tiny(g)
    g.column("Source")
    source = tiny_source(g, model, vae, clip)
    for rule in ("balanced", "paper"):
        g.column(f"Rule: {rule}", WIDE)
        _, picture = classify(g, model, source.latents, source.caption, title=f"Rule: {rule}", rule=rule)
        g.add("SaveImage", f"Head map, {rule}", images=picture, filename_prefix=f"det/heads {rule}")

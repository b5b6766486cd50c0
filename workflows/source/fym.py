"""The workflows of Follow-Your-Motion: two LoRAs from one clip, alone and beside DeT; the head map as a picture."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph, Out
from .parts import (
    NEGATIVE,
    QUIET,
    apply,
    decode_tiled,
    evaluate,
    own_video,
    sampler,
    save_video,
    text,
    tiny,
    tiny_source,
    train,
)

PROMPT = "a green star on a teal striped background"


def classify(g: Graph, model: Out, latents: Out, caption: Out, title: str | None = None, **changes) -> tuple[Out, Out]:
    """(heads, picture)."""
    return tuple(g.add("FYMClassifyHeads", title, model=model, latents=latents, caption=caption, **changes))


def train_loras(g: Graph, model: Out, latents: Out, caption: Out, heads: Out, **changes) -> tuple[Out, Out, Out]:
    """(spatial LoRA, temporal LoRA, losses)."""
    given = {"model": model, "latents": latents, "caption": caption, "heads": heads}
    return tuple(g.add("FYMTrainMotionLoRA", None, **given, **changes))


def with_lora(g: Graph, model: Out, lora: Out, strength: float, title: str) -> Out:
    return g.add("LoraModelLoader", title, model=model, lora=lora, strength_model=strength, bypass=False)[0]


def save_loras(g: Graph, spatial: Out, temporal: Out, name: str) -> None:
    g.add("FYMSaveMotionLoRA", "Save the look", lora=spatial, name=f"{name} spatial")
    g.add("FYMSaveMotionLoRA", "Save the motion", lora=temporal, name=f"{name} temporal")


def fym_embedded(g: Graph) -> None:
    g.column()
    g.note("fym_embedded")
    g.column("Source")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    g.column("Heads")
    heads, picture = classify(g, model, source.latents, source.caption)
    g.add("SaveImage", "Head map", images=picture, filename_prefix="det/fym heads")
    g.column("Train")
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    spatial, temporal, losses = train_loras(
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
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    looked = with_lora(g, model, spatial, 0.0, "The look: 0 for a new subject")
    moved = with_lora(g, looked, temporal, 1.0, "The motion")
    samples = sampler(g, moved, prompt, negative, source.empty, "KSampler with the LoRAs")
    with_loras = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    samples = sampler(g, model, prompt, negative, source.empty, "KSampler without")
    without = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    g.column()
    save_video(g, with_loras, 8.0, "det/fym with loras", "With the LoRAs")
    evaluate(g, source.tracks, with_loras, "Motion with the LoRAs")
    save_loras(g, spatial, temporal, "embedded demo")
    g.column()
    save_video(g, without, 8.0, "det/fym without", "Without the LoRAs")
    evaluate(g, source.tracks, without, "Motion without")


def fym_wan(g: Graph) -> None:
    g.column()
    g.note("fym_wan")
    g.column("Base model")
    model = g.add("DeTLoadDiT", None, model_name="wan2.1_t2v_1.3B_fp16.safetensors", weight_dtype="default")[0]
    clip = g.add("CLIPLoader", None, clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan", device="default")[
        0
    ]
    vae = g.add("VAELoader", None, vae_name="wan_2.1_vae.safetensors")[0]
    g.column("Source")
    source = own_video(g, model, vae, 832, 480, 81)
    g.column("Heads")
    caption = text(g, clip, "a woman in a red dress dances in a park", "Caption of the source: what is seen")
    heads, picture = classify(g, model, source.latents, caption)
    g.add("SaveImage", "Head map", images=picture, filename_prefix="det/wan heads")
    g.column("Train")
    prompt = text(g, clip, "an astronaut in a white suit on the moon", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    spatial, temporal, losses = train_loras(
        g,
        model,
        source.latents,
        caption,
        heads,
        run_name="wan motion lora",
        preview_every=300,
        frames=source.frames,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    save_loras(g, spatial, temporal, "wan motion")
    looked = with_lora(g, model, spatial, 0.0, "The look: 0 for a new subject")
    moved = with_lora(g, looked, temporal, 1.0, "The motion")
    moved = g.add("ModelSamplingSD3", None, model=moved, shift=5.0)[0]
    samples = sampler(g, moved, prompt, negative, source.empty, steps=30, cfg=5.0)
    result = decode_tiled(g, samples, vae)
    g.column()
    save_video(g, result, source.fps, "det/wan motion lora")
    evaluate(g, source.tracks, result)


def fym_and_det(g: Graph) -> None:
    g.column()
    g.note("fym_and_det")
    g.column("Source")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    g.column("Train")
    adapter, _ = train(g, model, source.latents, source.caption, source.tracks, run_name="both det", **QUIET)
    g.column()
    heads, _ = classify(g, model, source.latents, source.caption)
    _, temporal, _ = train_loras(g, model, source.latents, source.caption, heads, run_name="both fym", **QUIET)
    g.column("Replay: DeT, Follow-Your-Motion, both")
    models = {
        "DeT": apply(g, model, adapter, "DeT alone"),
        "FYM": with_lora(g, model, temporal, 1.0, "Follow-Your-Motion alone"),
        "both": apply(g, with_lora(g, model, temporal, 0.6, "Both: the LoRA"), adapter, "Both: DeT", strength=0.6),
    }
    g.column()
    frames = {
        name: g.add("VAEDecode", None, samples=sampler(g, moved, prompt, negative, source.empty, name), vae=vae)[0]
        for name, moved in models.items()
    }
    for name, images in frames.items():
        g.column()
        save_video(g, images, 8.0, f"det/one clip {name}", name)
        evaluate(g, source.tracks, images, f"Motion, {name}")


def fym_heads(g: Graph) -> None:
    g.column()
    g.note("fym_heads")
    g.column("Source")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    g.column("Heads")
    for rule in ("balanced", "paper"):
        _, picture = classify(g, model, source.latents, source.caption, title=f"Rule: {rule}", rule=rule)
        g.add("SaveImage", f"Head map, {rule}", images=picture, filename_prefix=f"det/heads {rule}")


# File name for scripts (workflows/api) -> (name in the template browser, graph)
FYM_GRAPHS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "fym_embedded": ("FYM - motion LoRA (embedded model)", fym_embedded),
    "fym_wan_2_1": ("FYM - motion LoRA (Wan 2.1)", fym_wan),
    "fym_and_det": ("FYM - together with DeT", fym_and_det),
    "fym_heads": ("FYM - head map", fym_heads),
}

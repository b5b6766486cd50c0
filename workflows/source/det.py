"""The workflows themselves. Core nodes wherever they exist; the pack's own for what is new."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph
from .large_models import cogvideox, hunyuan, stepvideo, wan
from .parts import (
    NEGATIVE,
    QUIET,
    SOURCE_CAPTION,
    apply,
    evaluate,
    sampler,
    save_video,
    text,
    tiny,
    tiny_latent,
    tiny_source,
    train,
)


def embedded(g: Graph) -> None:
    g.column()
    g.note("embedded")
    g.column("Source")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    g.column("Train")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    adapter, losses = train(
        g,
        model,
        source.latents,
        source.caption,
        source.tracks,
        run_name="embedded demo",
        gradient_checkpointing=False,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.add("DeTSaveMotionAdapter", None, adapter=adapter, name="embedded demo", overwrite=True, caption=SOURCE_CAPTION)
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    moved = apply(g, model, adapter)
    with_adapter = g.add(
        "VAEDecode",
        None,
        samples=sampler(g, moved, prompt, negative, source.empty, "KSampler with the adapter"),
        vae=vae,
    )[0]
    without = g.add(
        "VAEDecode", None, samples=sampler(g, model, prompt, negative, source.empty, "KSampler without"), vae=vae
    )[0]
    g.column()
    save_video(g, with_adapter, 8.0, "det/embedded with adapter", "With the adapter")
    evaluate(g, source.tracks, with_adapter, "Motion with the adapter")
    g.column()
    save_video(g, without, 8.0, "det/embedded without", "Without the adapter")
    evaluate(g, source.tracks, without, "Motion without")


def reuse(g: Graph) -> None:
    g.column()
    g.note("reuse")
    g.column("Load")
    model, clip, vae = tiny(g)
    adapter = g.add("DeTLoadMotionAdapter", None, name="embedded demo.safetensors")[0]
    moved = apply(g, model, adapter)
    g.column("Sample")
    prompt = text(g, clip, "a yellow square on a purple checkered background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    samples = sampler(g, moved, prompt, negative, tiny_latent(g))
    g.column()
    save_video(g, g.add("VAEDecode", None, samples=samples, vae=vae)[0], 8.0, "det/reuse")


def combine(g: Graph) -> None:
    g.column()
    g.note("combine")
    g.column("First motion: a loop")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    first, _ = train(g, model, source.latents, source.caption, source.tracks, run_name="combine loop", **QUIET)
    g.column("Second motion: an arc")
    other = tiny_source(
        g, model, vae, clip, motion="arc", colour="blue", shape="square", background="olive", clip_seed=3
    )
    second, _ = train(g, model, other.latents, other.caption, other.tracks, run_name="combine arc", **QUIET)
    g.column("Both")
    both = apply(g, apply(g, model, first, "First motion", strength=0.6), second, "Second motion", strength=0.6)
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    samples = sampler(g, both, prompt, negative, source.empty)
    frames = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    g.column()
    save_video(g, frames, 8.0, "det/combined")
    evaluate(g, source.tracks, frames, "Against the first motion")
    evaluate(g, other.tracks, frames, "Against the second motion")


def compare(g: Graph) -> None:
    g.column()
    g.note("compare")
    g.column("Train")
    model, clip, vae = tiny(g)
    source = tiny_source(g, model, vae, clip)
    adapter, _ = train(g, model, source.latents, source.caption, source.tracks, run_name="compare", **QUIET)
    g.column("Prompt")
    prompt = text(g, clip, "a cyan triangle on a maroon gradient background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    frames = []
    for drop in (0.0, 0.35, 0.65):
        g.column("Drop 0, 0.35, 0.65" if not frames else None)
        moved = apply(g, model, adapter, f"Drop {drop:g}", drop_fraction=drop)
        frames.append(g.add("VAEDecode", None, samples=sampler(g, moved, prompt, negative, source.empty), vae=vae)[0])
        evaluate(g, source.tracks, frames[-1], f"Motion, drop {drop:g}")
    g.column("Side by side")
    row = frames[0]
    for other in frames[1:]:
        row = g.add(
            "ImageStitch",
            None,
            image1=row,
            image2=other,
            direction="right",
            match_image_size=True,
            spacing_width=2,
            spacing_color="white",
        )[0]
    save_video(g, row, 8.0, "det/drop fractions")


# File name for scripts (workflows/api) -> (name in the template browser, graph)
GRAPHS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "transfer_embedded": ("DeT - transfer motion (embedded model)", embedded),
    "transfer_cogvideox_5b": ("DeT - transfer motion (CogVideoX-5B)", cogvideox),
    "transfer_hunyuan_video": ("DeT - transfer motion (HunyuanVideo)", hunyuan),
    "transfer_step_video": ("DeT - transfer motion (Step-Video-T2V)", stepvideo),
    "transfer_wan_2_1": ("DeT - transfer motion (Wan 2.1, experimental)", wan),
    "reuse_adapter": ("DeT - reuse a saved adapter", reuse),
    "combine_adapters": ("DeT - combine two adapters", combine),
    "compare_drop_fractions": ("DeT - compare drop fractions", compare),
}

"""The workflows themselves. Core nodes wherever they exist; the pack's own for what is new."""

from __future__ import annotations

from collections.abc import Callable

from build import Graph
from common import (
    NEGATIVE,
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
from large_models import cogvideox, hunyuan, stepvideo, wan


def embedded(g: Graph) -> None:
    g.column()
    g.note(
        "## Motion transfer, without any download\n\nPress **Run**. In a minute or two the small model that comes "
        "with the pack learns the "
        "loop of the red circle and makes a green star fly it, on another background.\n\n1. *Source*: a clip is "
        "drawn and tracked. "
        "Replace it by **Load Video** and **Get Video Components** for a clip of your own.\n2. *Train*: watch the "
        "loss and a sample "
        "every 100 steps.\n3. *Replay*: the same seed without and with the adapter, and how close the motion is (1 "
        "is the same).\n\n"
        "The adapter is saved as `embedded demo` in `models/det_adapters`; the workflow *reuse a saved adapter* "
        "loads it.\n\n"
        "This model has one latent frame for every frame: the empty latent's length of 33 gives 9 frames."
    )
    g.column("Source")
    model, clip, vae = tiny(g)
    tracks, latents, caption = tiny_source(g, vae, clip)
    g.column("Train")
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    adapter, losses = train(
        g,
        model,
        latents,
        caption,
        tracks,
        run_name="embedded demo",
        gradient_checkpointing=False,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.add("DeTSaveMotionAdapter", None, adapter=adapter, name="embedded demo", overwrite=True, caption=SOURCE_CAPTION)
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    latent = tiny_latent(g)
    moved = apply(g, model, adapter)
    with_adapter = g.add(
        "VAEDecode", None, samples=sampler(g, moved, prompt, negative, latent, "KSampler with the adapter"), vae=vae
    )[0]
    without = g.add(
        "VAEDecode", None, samples=sampler(g, model, prompt, negative, latent, "KSampler without"), vae=vae
    )[0]
    g.column()
    save_video(g, with_adapter, 8.0, "det/embedded with adapter", "With the adapter")
    evaluate(g, tracks, with_adapter, "Motion with the adapter")
    g.column()
    save_video(g, without, 8.0, "det/embedded without", "Without the adapter")
    evaluate(g, tracks, without, "Motion without")


def reuse(g: Graph) -> None:
    g.column()
    g.note(
        "## Reuse a saved adapter\n\nRun *transfer motion (embedded model)* once: it saves `embedded demo`. Here "
        "it is loaded and put on the "
        "model with a new prompt; no training.\n\nFor a large model replace the first node by the loaders of that "
        "model. An adapter "
        "works on the base model that it was trained on, with any LoRA."
    )
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
    g.note(
        "## Two motions at once\n\nTwo adapters are trained on two clips and stacked: **Apply Motion Adapter** "
        "after **Apply Motion "
        "Adapter**. Their strengths are shares of each motion; a start or end percent lets one decide the "
        "beginning of the sampling "
        "and the other the rest.\n\nWhere both ask for different paths the result is a compromise, not a sum."
    )
    g.column("First motion: a loop")
    model, clip, vae = tiny(g)
    tracks, latents, caption = tiny_source(g, vae, clip)
    first, _ = train(
        g, model, latents, caption, tracks, run_name="combine loop", gradient_checkpointing=False, preview_every=0
    )
    g.column("Second motion: an arc")
    other_tracks, other_latents, other_caption = tiny_source(
        g, vae, clip, motion="arc", colour="blue", shape="square", background="olive", clip_seed=3
    )
    second, _ = train(
        g,
        model,
        other_latents,
        other_caption,
        other_tracks,
        run_name="combine arc",
        gradient_checkpointing=False,
        preview_every=0,
    )
    g.column("Both")
    both = apply(g, apply(g, model, first, "First motion", strength=0.6), second, "Second motion", strength=0.6)
    prompt = text(g, clip, "a green star on a teal striped background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    samples = sampler(g, both, prompt, negative, tiny_latent(g))
    frames = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    g.column()
    save_video(g, frames, 8.0, "det/combined")
    evaluate(g, tracks, frames, "Against the first motion")
    evaluate(g, other_tracks, frames, "Against the second motion")


def compare(g: Graph) -> None:
    g.column()
    g.note(
        "## How many blocks to drop\n\nOne adapter, one seed, three drop fractions, side by side from left to "
        "right: 0 (all kernels act), "
        "0.35 and 0.65 (the paper's value). Dropping more blocks follows the prompt better and the source less."
    )
    g.column("Train")
    model, clip, vae = tiny(g)
    tracks, latents, caption = tiny_source(g, vae, clip)
    adapter, _ = train(
        g, model, latents, caption, tracks, run_name="compare", gradient_checkpointing=False, preview_every=0
    )
    g.column("Prompt")
    prompt = text(g, clip, "a cyan triangle on a maroon gradient background", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    latent = tiny_latent(g)
    frames = []
    for drop in (0.0, 0.35, 0.65):
        g.column("Drop 0, 0.35, 0.65" if not frames else None)
        moved = apply(g, model, adapter, f"Drop {drop:g}", drop_fraction=drop)
        frames.append(g.add("VAEDecode", None, samples=sampler(g, moved, prompt, negative, latent), vae=vae)[0])
        evaluate(g, tracks, frames[-1], f"Motion, drop {drop:g}")
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

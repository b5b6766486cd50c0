"""The workflows of Follow-Your-Motion: two LoRAs from one clip, alone and beside DeT; the head map as a picture."""

from __future__ import annotations

from collections.abc import Callable

from build import Graph, Out
from common import (
    NEGATIVE,
    apply,
    decode_tiled,
    evaluate,
    sampler,
    save_video,
    text,
    tiny,
    tiny_latent,
    tiny_source,
    train,
)

PROMPT = "a green star on a teal striped background"
EMBEDDED_STEPS, LARGE_STEPS = (100, 400), (600, 600)  # the models' own, which go into the names of the files


def classify(g: Graph, model: Out, latents: Out, caption: Out, **changes) -> tuple[Out, Out]:
    """(heads, picture)."""
    settings = {"rule": "balanced", "draws": 3, "noise_level": 900.0, "head_seed": 0}
    title = changes.pop("title", None)
    return tuple(
        g.add("FYMClassifyHeads", title, model=model, latents=latents, caption=caption, **{**settings, **changes})
    )


def train_loras(g: Graph, model: Out, latents: Out, caption: Out, heads: Out, **changes) -> tuple[Out, Out, Out]:
    """(spatial LoRA, temporal LoRA, losses)."""
    settings = {
        "spatial_steps": 0,
        "temporal_steps": 0,
        "learning_rate": 0.0,
        "rank": 0,
        "sparse_frames": 0,
        "train_seed": 0,
        "run_name": "my motion lora",
        "resume": False,
        "gradient_checkpointing": True,
        "preview_every": 100,
        "motion_loss": "the model's own",
        "frame_spacing": "random",
    }
    return tuple(
        g.add(
            "FYMTrainMotionLoRA",
            None,
            model=model,
            latents=latents,
            caption=caption,
            heads=heads,
            **{**settings, **changes},
        )
    )


def with_lora(g: Graph, model: Out, lora: Out, strength: float, title: str) -> Out:
    return g.add("LoraModelLoader", title, model=model, lora=lora, strength_model=strength, bypass=False)[0]


def save_loras(g: Graph, spatial: Out, temporal: Out, name: str, steps: tuple[int, int]) -> None:
    g.add("SaveLoRA", "Save the look", lora=spatial, prefix=f"loras/{name} spatial", steps=steps[0])
    g.add("SaveLoRA", "Save the motion", lora=temporal, prefix=f"loras/{name} temporal", steps=steps[1])


def fym_embedded(g: Graph) -> None:
    g.column()
    g.note(
        "## Motion as a LoRA, without any download\n\nPress **Run**. The small model that comes with the pack learns "
        "the loop of the red circle as two ordinary LoRAs and makes a green star fly it.\n\n1. *Heads*: which "
        "attention heads look within frames (blue), which across them (red).\n2. *Train*: first the look of the "
        "source on the blue heads, then its motion on the red ones.\n3. *Replay*: the motion LoRA at strength 1, the "
        "look LoRA at 0. Raise the latter towards 1 to get the source's subject back.\n\nThe LoRAs are saved in "
        "`output/loras`. Move them to `models/loras` to use them in any graph with **Load LoRA**: on the model that "
        "they were trained on."
    )
    g.column("Source")
    model, clip, vae = tiny(g)
    tracks, latents, caption = tiny_source(g, vae, clip)
    g.column("Heads")
    heads, picture = classify(g, model, latents, caption)
    g.add("SaveImage", "Head map", images=picture, filename_prefix="det/fym heads")
    g.column("Train")
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    spatial, temporal, losses = train_loras(
        g,
        model,
        latents,
        caption,
        heads,
        run_name="embedded demo lora",
        gradient_checkpointing=False,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    latent = tiny_latent(g)
    looked = with_lora(g, model, spatial, 0.0, "The look: 0 for a new subject")
    moved = with_lora(g, looked, temporal, 1.0, "The motion")
    samples = sampler(g, moved, prompt, negative, latent, "KSampler with the LoRAs")
    with_loras = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    samples = sampler(g, model, prompt, negative, latent, "KSampler without")
    without = g.add("VAEDecode", None, samples=samples, vae=vae)[0]
    g.column()
    save_video(g, with_loras, 8.0, "det/fym with loras", "With the LoRAs")
    evaluate(g, tracks, with_loras, "Motion with the LoRAs")
    save_loras(g, spatial, temporal, "embedded demo", EMBEDDED_STEPS)
    g.column()
    save_video(g, without, 8.0, "det/fym without", "Without the LoRAs")
    evaluate(g, tracks, without, "Motion without")


def fym_wan(g: Graph) -> None:
    width, height, length = 832, 480, 81
    g.column()
    g.note(
        "## Motion as a LoRA on Wan 2.1\n\nFollow-Your-Motion is the method to try on Wan, where DeT's kernels are "
        "reported not to work. It was not run on the real model by this project: the arithmetic was, on small random "
        "ones.\n\n- `models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors`\n- "
        "`models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`\n- `models/vae/wan_2.1_vae.safetensors`\n\n"
        "Choose your video in **Load Video** (the first 81 frames are used), write what it shows as the caption, and "
        "a prompt.\n\nThe LoRAs are saved in `output/loras`; move them to `models/loras` for **Load LoRA**. The "
        "motion LoRA alone (look at 0) moves a new subject; with the look at 1 you get the source's."
    )
    g.column("Base model")
    model = g.add("DeTLoadDiT", None, model_name="wan2.1_t2v_1.3B_fp16.safetensors", weight_dtype="default")[0]
    clip = g.add("CLIPLoader", None, clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan", device="default")[
        0
    ]
    vae = g.add("VAELoader", None, vae_name="wan_2.1_vae.safetensors")[0]
    g.column("Source")
    images, _, fps, *_ = g.add(
        "GetVideoComponents", None, video=g.add("LoadVideo", "Source video", file="source.mp4")[0]
    )
    scaled = g.add(
        "ImageScale", None, image=images, upscale_method="lanczos", width=width, height=height, crop="center"
    )[0]
    frames = g.add("ImageFromBatch", "The first 81 frames (4k+1)", image=scaled, batch_index=0, length=length)[0]
    tracks = g.add("DeTTrackVideo", None, frames=frames, points=100, tracker="auto", point_seed=0)[0]
    latents = g.add(
        "VAEEncodeTiled", None, pixels=frames, vae=vae, tile_size=512, overlap=64, temporal_size=64, temporal_overlap=8
    )[0]
    g.column("Heads")
    caption = text(g, clip, "a woman in a red dress dances in a park", "Caption of the source: what is seen")
    heads, picture = classify(g, model, latents, caption)
    g.add("SaveImage", "Head map", images=picture, filename_prefix="det/wan heads")
    g.column("Train")
    prompt = text(g, clip, "an astronaut in a white suit on the moon", "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    spatial, temporal, losses = train_loras(
        g,
        model,
        latents,
        caption,
        heads,
        run_name="wan motion lora",
        preview_every=300,
        frames=frames,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
    )
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    save_loras(g, spatial, temporal, "wan motion", LARGE_STEPS)
    looked = with_lora(g, model, spatial, 0.0, "The look: 0 for a new subject")
    moved = with_lora(g, looked, temporal, 1.0, "The motion")
    moved = g.add("ModelSamplingSD3", None, model=moved, shift=5.0)[0]
    latent = g.add("EmptyHunyuanLatentVideo", "Empty latent", width=width, height=height, length=length, batch_size=1)[
        0
    ]
    samples = sampler(g, moved, prompt, negative, latent, steps=30, cfg=5.0)
    result = decode_tiled(g, samples, vae)
    g.column()
    save_video(g, result, fps, "det/wan motion lora")
    evaluate(g, tracks, result)


def fym_and_det(g: Graph) -> None:
    g.column()
    g.note(
        "## DeT and Follow-Your-Motion on one clip\n\nBoth methods learn the same source, and one sampling has both: "
        "the motion LoRA is in the weights, the motion adapter beside the attention. They do not know of each other, "
        "so at full strength the motion can be overdone: 0.6 each is a start.\n\nBelow: DeT alone, Follow-Your-Motion "
        "alone, both."
    )
    g.column("Source")
    model, clip, vae = tiny(g)
    tracks, latents, caption = tiny_source(g, vae, clip)
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, NEGATIVE, "Negative prompt")
    g.column("Train")
    adapter, _ = train(
        g, model, latents, caption, tracks, run_name="both det", gradient_checkpointing=False, preview_every=0
    )
    g.column()
    heads, _ = classify(g, model, latents, caption)
    _, temporal, _ = train_loras(
        g, model, latents, caption, heads, run_name="both fym", gradient_checkpointing=False, preview_every=0
    )
    g.column("Replay: DeT, Follow-Your-Motion, both")
    latent = tiny_latent(g)
    models = {
        "DeT": apply(g, model, adapter, "DeT alone"),
        "FYM": with_lora(g, model, temporal, 1.0, "Follow-Your-Motion alone"),
        "both": apply(g, with_lora(g, model, temporal, 0.6, "Both: the LoRA"), adapter, "Both: DeT", strength=0.6),
    }
    g.column()
    frames = {
        name: g.add("VAEDecode", None, samples=sampler(g, moved, prompt, negative, latent, name), vae=vae)[0]
        for name, moved in models.items()
    }
    for name, images in frames.items():
        g.column()
        save_video(g, images, 8.0, f"det/one clip {name}", name)
        evaluate(g, tracks, images, f"Motion, {name}")


def fym_heads(g: Graph) -> None:
    g.column()
    g.note(
        "## What attention heads look at\n\nEach cell is an attention head, blocks from left to right. Blue heads look "
        "within a frame, red ones across frames, pale ones at neither more than by chance. Dots mark the heads that "
        "the rule calls temporal. Top: *balanced*, the half that leans most to time. Bottom: *paper*.\n\nFor another "
        "model replace the first node by the loaders of that model, and the clip by a video of yours."
    )
    g.column("Source")
    model, clip, vae = tiny(g)
    _, latents, caption = tiny_source(g, vae, clip)
    g.column("Heads")
    for rule in ("balanced", "paper"):
        _, picture = classify(g, model, latents, caption, title=f"Rule: {rule}", rule=rule)
        g.add("SaveImage", f"Head map, {rule}", images=picture, filename_prefix=f"det/heads {rule}")


# File name for scripts (workflows/api) -> (name in the template browser, graph)
FYM_GRAPHS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "fym_embedded": ("FYM - motion LoRA (embedded model)", fym_embedded),
    "fym_wan_2_1": ("FYM - motion LoRA (Wan 2.1)", fym_wan),
    "fym_and_det": ("FYM - together with DeT", fym_and_det),
    "fym_heads": ("FYM - head map", fym_heads),
}

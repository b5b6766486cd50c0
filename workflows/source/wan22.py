"""The workflows over Wan 2.2 A14B: two experts, an adapter for each."""

from __future__ import annotations

from functools import partial

from .graph import Graph, Out, Shown
from .large_models import CAPTION, PROMPT
from .parts import EULER, WIDE, apply, compare, decode_tiled, guide, save_adapter, save_video, text, video_of
from .stages import begun, ended, first_frame, learned, size_of

WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，"
    "背景人很多，倒着走"
)


def wan22_loaders(s: Graph, task: str) -> dict[str, Out]:
    version = "v1.1" if task == "t2v" else "v1"
    made = {}
    for noise in ("high", "low"):
        file = Shown(f"{noise}_noise", f"wan2.2_{task}_{noise}_noise_14B_fp8_scaled.safetensors")
        expert = s.add("UNETLoader", None, unet_name=file, weight_dtype="default")[0]
        lora = f"wan2.2_{task}_lightx2v_4steps_lora_{version}_{noise}_noise.safetensors"
        lora = Shown(f"{noise}_noise_lora", lora)
        quick = s.add("LoraLoaderModelOnly", None, model=expert, lora_name=lora, strength_model=1.0)[0]
        made |= {"model" if noise == "high" else "low": expert, f"quick {noise}": quick}
    s.column()
    encoder = Shown("text_encoder", "umt5_xxl_fp8_e4m3fn_scaled.safetensors")
    clip = s.add("CLIPLoader", None, clip_name=encoder, type="wan", device="default")[0]
    vae = s.add("VAELoader", None, vae_name=Shown("vae", "wan_2.1_vae.safetensors"))[0]
    return {**made, "clip": clip, "vae": vae}


def wan_caption(s: Graph, caption, frames, vae) -> dict[str, Out]:
    given = {"positive": caption, "negative": caption, "vae": vae, **size_of(s, frames), "batch_size": 1}
    return {"caption": s.add("WanImageToVideo", None, **given, start_image=first_frame(s, frames))[0]}


def wan22_sampling(
    s: Graph, high, low, moved_high, moved_low, prompt, negative, latent, fps, vae, frames=None, picture=None
) -> dict[str, Out]:
    """Four steps, the first two by the expert for high noise."""
    if picture is not None:
        given = {"positive": prompt, "negative": negative, "vae": vae, **size_of(s, frames), "batch_size": 1}
        prompt, negative, latent = s.add("WanImageToVideo", None, **given, start_image=picture)
    seed, made = Shown("seed", 0), {}
    words = {"positive": prompt, "negative": negative}
    for name, pair in (("without", (high, low)), ("with", (moved_high, moved_low))):
        s.column()
        samples = latent
        for part, (expert, add, start, end) in enumerate(((pair[0], "enable", 0, 2), (pair[1], "disable", 2, 10000))):
            shifted = s.add("ModelSamplingSD3", None, model=expert, shift=Shown("shift", 5.0))[0]
            steps = {"steps": 4, "cfg": 1.0, "start_at_step": start, "end_at_step": end}
            given = {"add_noise": add, "return_with_leftover_noise": "disable" if part else "enable"}
            given |= {"noise_seed": 0 if part else seed, "latent_image": samples}
            samples = s.add("KSamplerAdvanced", None, model=shifted, **steps, **EULER, **words, **given)[0]
        made[name] = decode_tiled(s, samples, vae)
    return {"with": made["with"], "without": made["without"], **video_of(s, made["with"], fps)}


def wan22(g: Graph, picture: bool) -> None:
    name = "wan 2.2 picture" if picture else "wan 2.2"
    loaders = partial(wan22_loaders, task="i2v" if picture else "t2v")
    note = "wan_2_2_picture" if picture else "wan_2_2"
    base, source = begun(g, note, (640, 384, 49), loaders, "Wan 2.2 A14B", picture)
    clip, vae = base["clip"], base["vae"]
    g.column("Learn: high noise")
    caption = text(g, clip, CAPTION, "Caption of the source")
    if picture:
        (caption,) = g.subgraph(
            "Caption, first frame given", wan_caption, caption=caption, frames=source.frames, vae=vae
        )
    adapters = {}
    for noise, expert in (("high", base["model"]), ("low", base["low"])):
        if adapters:
            g.column("Learn: low noise")
        own = {"title": f"Learn the motion, {noise} noise", "noise_range": noise, "tall": 610}
        adapters[noise] = learned(g, expert, source, caption, f"{name} {noise}", **own)
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, WAN_NEGATIVE, "Negative prompt")

    def kept(s: Graph, high, low, drawn) -> dict[str, Out]:
        save_adapter(s, high, drawn, f"{name} high noise")
        save_adapter(s, low, drawn, f"{name} low noise")
        return {}

    g.subgraph("Keep both motions", kept, **adapters, drawn=source.drawn)
    g.column("Replay", WIDE)
    pictures = {"picture": base["picture"], "frames": source.frames} if picture else {}

    def both(s: Graph, high, low, high_adapter, low_adapter) -> dict[str, Out]:
        strength = {"strength": Shown("strength", 1.0)}
        return {
            "moved high": apply(s, high, high_adapter, "High noise", **strength),
            "moved low": apply(s, low, low_adapter, "Low noise", **strength),
        }

    experts = {"high": base["quick high"], "low": base["quick low"]}
    both_adapters = {"high_adapter": adapters["high"], "low_adapter": adapters["low"]}
    high, low = g.subgraph("Put the motion on", both, **experts, **both_adapters)
    given = {**experts, "moved_high": high, "moved_low": low, "prompt": prompt, "negative": negative}
    given |= {"latent": source.empty, "fps": source.fps, "vae": vae, **pictures}
    result, without, video = g.subgraph("Sample with and without", wan22_sampling, **given)
    compare(g, source.frames, result, without, source.fps, f"det/{name} compared", tall=230)
    save_video(g, video, f"det/{name}", tall=230)


def in_seconds(g: Graph) -> None:
    """Guidance of the expert for high noise, which the first steps are of; nothing is trained."""
    loaders = partial(wan22_loaders, task="t2v")
    base, source = begun(g, "guide_wan_2_2", (640, 384, 49), loaders, "Wan 2.2 A14B", picture=False)
    clip, vae, high, low = base["clip"], base["vae"], base["quick high"], base["quick low"]
    g.column("Guide")
    prompt = text(g, clip, PROMPT, "Prompt")
    negative = text(g, clip, WAN_NEGATIVE, "Negative prompt")
    empty = g.add("CLIPTextEncode", "Empty prompt", tall=106, clip=clip, text="")[0]
    guided = guide(g, high, source.latents, empty)
    given = {"high": high, "low": low, "moved_high": guided, "moved_low": low, "prompt": prompt, "negative": negative}
    given |= {"latent": source.empty, "fps": source.fps, "vae": vae}
    sampled = g.subgraph("Sample with and without", wan22_sampling, **given)
    ended(g, source, *sampled, "wan 2.2 guided")

"""The workflows over MiniMax H3."""

from __future__ import annotations

from functools import partial

from .graph import Graph, Out, Shown
from .large_models import CAPTION, PROMPT
from .parts import apply, caption_words, save_adapter, video_of
from .stages import begun, ended, first_frame, learned, size_of


def h3_loaders(s: Graph) -> dict[str, Out]:
    dit = Shown("model", "minimax_h3_fl2va_pruned_int8_convrot.safetensors")
    model = s.add("UNETLoader", None, unet_name=dit, weight_dtype="default")[0]
    lora = Shown("turbo_lora", "minimax_h3_fl2v_turbo_8step_v1.0_comfyui_bf16.safetensors")
    quick = s.add("LoraLoaderModelOnly", None, model=model, lora_name=lora, strength_model=1.0)[0]
    encoder = Shown("text_encoder", "qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors")
    clip = s.add("CLIPLoader", None, clip_name=encoder, type="minimax", device="default")[0]
    vae = s.add("VAELoader", None, vae_name=Shown("vae", "minimax_h3_video_vae_fp16.safetensors"))[0]
    audio = s.add("VAELoader", None, vae_name=Shown("audio_vae", "minimax_h3_audio_vae_fp32.safetensors"))[0]
    return {"model": model, "turbo": quick, "clip": clip, "vae": vae, "audio vae": audio}


def h3_words(
    s: Graph, clip, vae, frames, picture=None, words: str = "", given: bool = False, caption: bool = False
) -> dict[str, Out]:
    """Text, and the picture that the video begins with: of the user's, or with `given` the source's first frame."""
    prompt = caption_words(s, clip, frames, words) if caption else Shown("prompt", words) if words else ""
    start = {} if picture is None and not given else {"first_frame": first_frame(s, frames) if given else picture}
    made = {"clip": clip, "vae": vae, "prompt": prompt, **size_of(s, frames), **start}
    conditioning, latent = s.add("MiniMaxH3ImageToVideo", None, **made)
    return {"conditioning": conditioning, "latent": latent}


def h3_sampling(s: Graph, model, moved, prompt, latent, fps, vae, audio_vae) -> dict[str, Out]:
    """Eight steps with sound; the model is distilled to need no guidance."""
    noise = s.add("RandomNoise", None, noise_seed=Shown("seed", 0))[0]
    kind = s.add("KSamplerSelect", None, sampler_name="res_multistep")[0]
    given = {"model": model, "scheduler": "simple", "steps": 8, "denoise": 1.0}
    sigmas = s.add("BasicScheduler", None, **given)[0]
    made, samples = {}, latent
    for name, each in (("without", model), ("with", moved)):
        s.column()
        guider = s.add("BasicGuider", None, model=each, conditioning=prompt)[0]
        given = {"noise": noise, "guider": guider, "sampler": kind, "sigmas": sigmas, "latent_image": latent}
        samples = s.add("SamplerCustomAdvanced", None, **given)[0]
        made[name] = s.add("VAEDecode", None, samples=samples, vae=vae)[0]
    audio = s.add("VAEDecodeAudio", None, samples=samples, vae=audio_vae)[0]
    return {"with": made["with"], "without": made["without"], **video_of(s, made["with"], fps, audio)}


def h3(g: Graph, picture: bool) -> None:
    name = "minimax h3 picture" if picture else "minimax h3"
    note = "minimax_h3_picture" if picture else "minimax_h3"
    base, source = begun(g, note, (640, 384, 39), h3_loaders, "MiniMax H3", picture, tiled=False)
    given = {"clip": base["clip"], "vae": base["vae"], "frames": source.frames}
    g.column("Learn")
    words = partial(h3_words, words=CAPTION, given=picture, caption=True)
    caption, _ = g.subgraph("Caption of the source", words, **given)
    without_words, _ = g.subgraph("Empty prompt", partial(h3_words, given=picture), **given)
    adapter = learned(g, base["model"], source, caption, name, empty_prompt=without_words, noise="as sampled", tall=620)
    g.column("Replay")
    pictures = {"picture": base["picture"]} if picture else {}
    prompt, latent = g.subgraph("Prompt", partial(h3_words, words=PROMPT), **given, **pictures)
    moved = apply(g, base["turbo"], adapter)
    given = {"model": base["turbo"], "moved": moved, "prompt": prompt, "latent": latent, "fps": source.fps}
    given |= {"vae": base["vae"], "audio_vae": base["audio vae"]}
    result, without, video = g.subgraph("Sample with and without", h3_sampling, **given)
    save_adapter(g, adapter, source.drawn, name)
    ended(g, source, result, without, video, name)

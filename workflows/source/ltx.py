"""The workflows over LTX-2.3 and LTX-2.5."""

from __future__ import annotations

from functools import partial

from .graph import Graph, Out, Shown
from .large_models import CAPTION, PROMPT
from .parts import apply, caption_words, decode_tiled, save_adapter, text, video_of
from .stages import begun, ended, first_frame, learned, size_of

LTX_SIGMAS = "1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"


def ltx23_loaders(s: Graph) -> dict[str, Out]:
    whole = Shown("checkpoint", "ltx-2.3-22b-dev-fp8.safetensors")
    model, _, vae = s.add("CheckpointLoaderSimple", None, ckpt_name=whole)
    lora = Shown("distilled_lora", "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors")
    quick = s.add("LoraLoaderModelOnly", None, model=model, lora_name=lora, strength_model=0.5)[0]
    encoder = Shown("text_encoder", "gemma_3_12B_it_fp4_mixed.safetensors")
    clip = s.add("LTXAVTextEncoderLoader", None, text_encoder=encoder, ckpt_name=whole, device="default")[0]
    audio = s.add("LTXVAudioVAELoader", None, ckpt_name=whole)[0]
    return {"model": model, "distilled": quick, "clip": clip, "vae": vae, "audio vae": audio}


def ltx25_loaders(s: Graph) -> dict[str, Out]:
    dit = Shown("model", "ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors")
    model = s.add("UNETLoader", None, unet_name=dit, weight_dtype="default")[0]
    encoder = Shown("text_encoder", "gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors")
    clip = s.add("CLIPLoader", None, clip_name=encoder, type="ltxv", device="default")[0]
    vae = s.add("VAELoader", None, vae_name=Shown("vae", "ltx-2.5-video-vae-bf16.safetensors"))[0]
    audio = s.add("VAELoader", None, vae_name=Shown("audio_vae", "ltx-2.5-audio-vae-bf16.safetensors"))[0]
    return {"model": model, "distilled": model, "clip": clip, "vae": vae, "audio vae": audio}


def ltx_caption(s: Graph, clip, frames, fps, latents=None, vae=None) -> dict[str, Out]:
    """The caption at the clip's frame rate; with latents, these with the first frame given."""
    caption = text(s, clip, caption_words(s, clip, frames, CAPTION), "Caption of the source")
    s.column()
    made = {"caption": s.add("LTXVConditioning", None, positive=caption, negative=caption, frame_rate=fps)[0]}
    if latents is None:
        return made
    given = {"vae": vae, "image": first_frame(s, frames), "latent": latents, "strength": 1.0, "bypass": False}
    return {**made, "latents": s.add("LTXVImgToVideoInplace", None, **given)[0]}


def ltx_sampling(
    s: Graph, model, moved, prompt, latent, frames, fps, vae, audio_vae, picture=None, ancestral=False
) -> dict[str, Out]:
    """Eight steps at cfg 1 with sound, as in ComfyUI's templates before their enlargement."""
    given = {"positive": prompt, "negative": prompt, "frame_rate": fps}  # at cfg 1 the negative one is not looked at
    positive, negative = s.add("LTXVConditioning", None, **given)
    length = size_of(s, frames)["length"]
    given = {"frames_number": length, "frame_rate": fps, "batch_size": 1, "audio_vae": audio_vae}
    silence = s.add("LTXVEmptyLatentAudio", None, **given)[0]
    if picture is not None:
        image = s.add("LTXVPreprocess", None, image=picture, img_compression=18)[0]
        given = {"vae": vae, "image": image, "latent": latent, "strength": 1.0}
        latent = s.add("LTXVImgToVideoInplace", None, **given, bypass=False)[0]
    latent = s.add("LTXVConcatAVLatent", None, video_latent=latent, audio_latent=silence)[0]
    s.column()
    noise = s.add("RandomNoise", None, noise_seed=Shown("seed", 0))[0]
    kind = s.add("KSamplerSelect", None, sampler_name="euler_ancestral" if ancestral else "euler")[0]
    sigmas = s.add("ManualSigmas", None, sigmas=LTX_SIGMAS)[0]
    frames_of, sound = {}, None
    for name, each in (("without", model), ("with", moved)):
        s.column()
        given = {"model": each, "positive": positive, "negative": negative}
        if ancestral:
            guider = s.add("LTXVDualCFGGuider", None, **given, video_cfg=1.0, audio_cfg=1.0)[0]
        else:
            guider = s.add("CFGGuider", None, **given, cfg=1.0)[0]
        given = {"noise": noise, "guider": guider, "sampler": kind, "sigmas": sigmas, "latent_image": latent}
        video, sound = s.add("LTXVSeparateAVLatent", None, av_latent=s.add("SamplerCustomAdvanced", None, **given)[0])
        frames_of[name] = decode_tiled(s, video, vae)
    audio = s.add("LTXVAudioVAEDecode", None, samples=sound, audio_vae=audio_vae)[0]
    return {"with": frames_of["with"], "without": frames_of["without"], **video_of(s, frames_of["with"], fps, audio)}


def ltx(g: Graph, version: str, picture: bool) -> None:
    distilled = version == "2.5"
    name = f"ltx-{version} {'picture' if picture else 'motion'}"
    note = f"ltx_{version.replace('.', '_')}{'_picture' if picture else ''}"
    loaders = ltx25_loaders if distilled else ltx23_loaders
    base, source = begun(g, note, (768, 512, 97), loaders, f"LTX-{version}", picture)
    clip, vae = base["clip"], base["vae"]
    g.column("Learn")
    given = {"clip": clip, "frames": source.frames, "fps": source.fps}
    given |= {"latents": source.latents, "vae": vae} if picture else {}
    caption, latents = (*g.subgraph("Caption of the source", ltx_caption, **given), source.latents)[:2]
    adapter = learned(
        g,
        base["model"],
        source,
        caption,
        name,
        latents=latents,
        noise="as sampled" if distilled else "uniform",
        tall=780,
    )
    g.column("Replay")
    pictures = {"picture": base["picture"]} if picture else {}
    prompt = text(g, clip, PROMPT, "Prompt")
    moved = apply(g, base["distilled"], adapter)
    given = {"model": base["distilled"], "moved": moved, "prompt": prompt}
    given |= {"latent": source.empty, "frames": source.frames, "fps": source.fps}
    given |= {"vae": vae, "audio_vae": base["audio vae"], **pictures}
    sampling = partial(ltx_sampling, ancestral=distilled)
    result, without, video = g.subgraph("Sample with and without", sampling, **given)
    save_adapter(g, adapter, source.drawn, name)
    ended(g, source, result, without, video, name)

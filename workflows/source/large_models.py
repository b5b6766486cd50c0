"""The workflows over large models: one graph, four sets of loaders, sizes and sampling settings."""

from __future__ import annotations

from .graph import Graph, Out
from .parts import apply, decode_tiled, evaluate, own_video, sampler, save_video, text, train


def large(
    g: Graph,
    note: str,
    model_name: str,
    clip_node: tuple[str, dict],
    vae_node: tuple[str, dict],
    size: tuple[int, int, int],
    sampling: dict,
    shift: float | None = None,
    guidance: float | None = None,
    name: str = "",
    suffix: str = "",
    negative_prompt: str = "",
) -> None:
    """The common graph: load a video, track it, train, replay. size: width, height, frames.
    suffix: put behind the prompt."""
    g.column()
    g.note(note)
    g.column("Base model")
    model = g.add("DeTLoadDiT", None, model_name=model_name, weight_dtype="default")[0]
    clip = g.add(clip_node[0], None, **clip_node[1])[0]
    vae = g.add(vae_node[0], None, **vae_node[1])[0]
    g.column("Source")
    source = own_video(g, model, vae, *size)
    g.column("Train")
    told = {"guidance": guidance} if guidance else {}

    def encoded(words: str, title: str) -> Out:
        plain = text(g, clip, words, title)
        return g.add("FluxGuidance", None, conditioning=plain, **told)[0] if told else plain

    caption = encoded("a woman in a red dress dances in a park", "Caption of the source: what is seen")
    prompt = encoded("an astronaut in a white suit on the moon" + suffix, "Prompt")
    negative = prompt if guidance else encoded(negative_prompt, "Negative prompt")
    adapter, losses = train(
        g,
        model,
        source.latents,
        caption,
        source.tracks,
        run_name=name,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
        preview_every=250,
        frames=source.frames,
    )
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    g.add("DeTSaveMotionAdapter", None, adapter=adapter, name=name, overwrite=False, caption="")
    moved = apply(g, model, adapter)
    if shift:
        moved = g.add("ModelSamplingSD3", None, model=moved, shift=shift)[0]
    samples = sampler(g, moved, prompt, negative, source.empty, **sampling)
    result = decode_tiled(g, samples, vae)
    g.column()
    save_video(g, result, source.fps, f"det/{name}")
    evaluate(g, source.tracks, result)


def cogvideox(g: Graph) -> None:
    large(
        g,
        "cogvideox",
        "diffusers/CogVideoX-5b",
        ("CLIPLoader", {"clip_name": "t5xxl_fp16.safetensors", "type": "cogvideox", "device": "default"}),
        ("VAELoader", {"vae_name": "cogvideox_vae.safetensors"}),
        (720, 480, 49),
        {"steps": 50, "cfg": 6.0},
        name="cogvideox motion",
    )


def hunyuan(g: Graph) -> None:
    large(
        g,
        "hunyuan",
        "hunyuan_video_t2v_720p_bf16.safetensors",
        (
            "DualCLIPLoader",
            {
                "clip_name1": "clip_l.safetensors",
                "clip_name2": "llava_llama3_fp8_scaled.safetensors",
                "type": "hunyuan_video",
                "device": "default",
            },
        ),
        ("VAELoader", {"vae_name": "hunyuan_video_vae_bf16.safetensors"}),
        (768, 512, 49),
        {"steps": 30, "cfg": 1.0},
        shift=7.0,
        guidance=6.0,
        name="hunyuan motion",
    )


def wan(g: Graph) -> None:
    large(
        g,
        "wan",
        "wan2.1_t2v_1.3B_fp16.safetensors",
        ("CLIPLoader", {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"}),
        ("VAELoader", {"vae_name": "wan_2.1_vae.safetensors"}),
        (832, 480, 49),
        {"steps": 30, "cfg": 5.0},
        shift=5.0,
        name="wan motion",
    )


# The published positive and negative prompt; `det_core.models.stepvideo.prompt` has the same for the command line.
STEP_POSITIVE = (
    "超高清、HDR 视频、环境光、杜比全景声、画面稳定、流畅动作、逼真的细节、专业级构图、超现实主义、自然、生动、超细节、"
    "清晰。"
)
STEP_NEGATIVE = "画面暗、低分辨率、不良手、文本、缺少手指、多余的手指、裁剪、低质量、颗粒状、签名、水印、用户名、模糊。"


def stepvideo(g: Graph) -> None:
    large(
        g,
        "stepvideo",
        "diffusers/stepvideo-t2v",
        ("DeTLoadStepVideoText", {"folder": "stepvideo-t2v"}),
        ("DeTLoadStepVideoVAE", {"vae_name": "diffusers/stepvideo-t2v/vae/vae_v2.safetensors"}),
        (768, 512, 51),
        {"steps": 50, "cfg": 9.0},
        name="step-video motion",
        suffix=STEP_POSITIVE,
        negative_prompt=STEP_NEGATIVE,
    )

"""The workflows over large models: one graph, four sets of loaders, sizes and sampling settings."""

from __future__ import annotations

from build import Graph, Out
from common import apply, decode_tiled, evaluate, sampler, save_video, text, train


def large(
    g: Graph,
    note: str,
    model_name: str,
    clip_node: tuple[str, dict],
    vae_node: tuple[str, dict],
    size: tuple[int, int],
    sampling: dict,
    shift: float | None = None,
    guidance: float | None = None,
    name: str = "",
    length: tuple[int, str] = (49, "4k+1"),
    empty: tuple[str, str] = ("EmptyHunyuanLatentVideo", "length"),
    suffix: str = "",
    negative_prompt: str = "",
) -> None:
    """The common graph: load a video, track it, train, replay. size: width, height. length: frames, and their rule.
    empty: the node of empty latents and its input for frames. suffix: put behind the prompt."""
    width, height = size
    g.column()
    g.note(note)
    g.column("Base model")
    model = g.add("DeTLoadDiT", None, model_name=model_name, weight_dtype="default")[0]
    clip = g.add(clip_node[0], None, **clip_node[1])[0]
    vae = g.add(vae_node[0], None, **vae_node[1])[0]
    g.column("Source")
    images, _, fps, *_ = g.add(
        "GetVideoComponents", None, video=g.add("LoadVideo", "Source video", file="source.mp4")[0]
    )
    scaled = g.add(
        "ImageScale", None, image=images, upscale_method="lanczos", width=width, height=height, crop="center"
    )[0]
    frames = g.add(
        "ImageFromBatch", "The first {} frames ({})".format(*length), image=scaled, batch_index=0, length=length[0]
    )[0]
    tracks = g.add("DeTTrackVideo", None, frames=frames, points=100, tracker="auto", point_seed=0)[0]
    latents = g.add(
        "VAEEncodeTiled", None, pixels=frames, vae=vae, tile_size=512, overlap=64, temporal_size=64, temporal_overlap=8
    )[0]
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
        latents,
        caption,
        tracks,
        run_name=name,
        vae=vae,
        preview_prompt=prompt,
        preview_negative=negative,
        preview_every=250,
    )
    g.add("LossGraphNode", None, loss=losses, filename_prefix="det/loss")
    g.column("Replay")
    g.add("DeTSaveMotionAdapter", None, adapter=adapter, name=name, overwrite=False, caption="")
    moved = apply(g, model, adapter)
    if shift:
        moved = g.add("ModelSamplingSD3", None, model=moved, shift=shift)[0]
    latent = g.add(empty[0], "Empty latent", width=width, height=height, **{empty[1]: length[0]}, batch_size=1)[0]
    samples = sampler(g, moved, prompt, negative, latent, **sampling)
    result = decode_tiled(g, samples, vae)
    g.column()
    save_video(g, result, fps, f"det/{name}")
    evaluate(g, tracks, result)


FILES = (
    "\n\nThen choose your video in **Load Video**, write what it shows as the caption, and a prompt. The first 49 "
    "frames are used."
)


def cogvideox(g: Graph) -> None:
    large(
        g,
        "## CogVideoX-5B\n\n- `models/diffusers/CogVideoX-5b/transformer/`: the folder `transformer` of "
        "`THUDM/CogVideoX-5b` (or one file in "
        "`models/diffusion_models`)\n- `models/text_encoders/t5xxl_fp16.safetensors`\n- "
        "`models/vae/cogvideox_vae.safetensors`: "
        "`vae/diffusion_pytorch_model.safetensors` of the same repository, renamed\n\nKeep euler and simple: they "
        "are the model's own DDIM." + FILES,
        "diffusers/CogVideoX-5b",
        ("CLIPLoader", {"clip_name": "t5xxl_fp16.safetensors", "type": "cogvideox", "device": "default"}),
        ("VAELoader", {"vae_name": "cogvideox_vae.safetensors"}),
        (720, 480),
        {"steps": 50, "cfg": 6.0},
        name="cogvideox motion",
    )


def hunyuan(g: Graph) -> None:
    large(
        g,
        "## HunyuanVideo\n\n- `models/diffusion_models/hunyuan_video_t2v_720p_bf16.safetensors`\n- "
        "`models/text_encoders/clip_l.safetensors` and "
        "`llava_llama3_fp8_scaled.safetensors`\n- `models/vae/hunyuan_video_vae_bf16.safetensors`\n\nThe model is "
        "guidance-distilled: "
        "cfg stays 1, **FluxGuidance** is what it is told." + FILES,
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
        (768, 512),
        {"steps": 30, "cfg": 1.0},
        shift=7.0,
        guidance=6.0,
        name="hunyuan motion",
    )


def wan(g: Graph) -> None:
    large(
        g,
        "## Wan 2.1 (experimental)\n\nThe author of the method reports that its temporal kernels do not work on "
        "Wan. This graph runs, "
        "but expect little; CogVideoX and HunyuanVideo are what the method was made for.\n\n- "
        "`models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors`"
        "\n- `models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`\n- `models/vae/wan_2.1_vae.safetensors`"
        + FILES,
        "wan2.1_t2v_1.3B_fp16.safetensors",
        ("CLIPLoader", {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"}),
        ("VAELoader", {"vae_name": "wan_2.1_vae.safetensors"}),
        (832, 480),
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
        "## Step-Video-T2V\n\n[stepfun-ai/stepvideo-t2v](https://huggingface.co/stepfun-ai/stepvideo-t2v) whole, as "
        "`models/diffusers/stepvideo-t2v/`: [transformer](https://huggingface.co/stepfun-ai/stepvideo-t2v/tree/main/"
        "transformer) (59 GB), [step_llm](https://huggingface.co/stepfun-ai/stepvideo-t2v/tree/main/step_llm) (39 GB), "
        "[hunyuan_clip](https://huggingface.co/stepfun-ai/stepvideo-t2v/tree/main/hunyuan_clip), "
        "[vae/vae_v2.safetensors](https://huggingface.co/stepfun-ai/stepvideo-t2v/tree/main/vae)\n\nWithout 100 GB of "
        "RAM: encode prompts once with **Save Conditioning (DeT)**, and put **Load Conditioning (DeT)** in place of "
        "the text encoders. On less than 80 GB of VRAM set weight_dtype to fp8.\n\nThe model's own words for quality "
        "stand behind the prompt; its negative prompt is the other text." + FILES.replace("49", "51"),
        "diffusers/stepvideo-t2v",
        ("DeTLoadStepVideoText", {"folder": "stepvideo-t2v"}),
        ("DeTLoadStepVideoVAE", {"vae_name": "diffusers/stepvideo-t2v/vae/vae_v2.safetensors"}),
        (768, 512),
        {"steps": 50, "cfg": 9.0},
        name="step-video motion",
        length=(51, "17k"),
        empty=("DeTEmptyStepVideoLatent", "frames"),
        suffix=STEP_POSITIVE,
        negative_prompt=STEP_NEGATIVE,
    )

"""The workflows over large models that sample with KSampler: one graph, four sets of loaders, sizes and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .graph import Graph, Out, Shown
from .parts import (
    WIDE,
    apply,
    compare,
    evaluate,
    guide,
    own_video,
    save_adapter,
    save_video,
    text,
    train,
    with_and_without,
)

CAPTION = "a woman in a red dress dances in a park"
PROMPT = "an astronaut in a white suit on the moon"
Loaders = tuple[str, Callable[[Graph], dict[str, Out]]]  # the subgraph's name, what is in it


def loaded(g: Graph, loaders: Loaders) -> list[Out]:
    """MODEL, CLIP, VAE of one base, in a subgraph that shows the files' names."""
    return g.subgraph(*loaders)


def loaders(name: str, dit: str, clip: tuple[str, dict], vae: tuple[str, str]) -> Loaders:
    """clip: class of the loader, inputs. vae: class, file."""

    def inside(s: Graph) -> dict[str, Out]:
        model = s.add("DeTLoadDiT", None, model_name=Shown("model", dit), weight_dtype="default")[0]
        files = {k: Shown(k, v) if v.endswith(".safetensors") else v for k, v in clip[1].items()}
        encoder = s.add(clip[0], None, **files)[0]
        codec = s.add(vae[0], None, vae_name=Shown("vae", vae[1]))[0]
        return {"model": model, "clip": encoder, "vae": codec}

    return name, inside


@dataclass(frozen=True)
class Large:
    """note: the file in notes/. size: width, height, frames. guidance: that a distilled model is told.

    suffix: put behind the prompt. settings: of the sampling.
    """

    note: str
    loaders: Loaders
    size: tuple[int, int, int]
    name: str
    settings: dict = field(default_factory=dict)
    guidance: float | None = None
    suffix: str = ""
    negative: str = ""

    def __call__(self, g: Graph) -> None:
        g.column()
        g.note(self.note, 520)
        model, clip, vae = loaded(g, self.loaders)

        def encoded(words: str, title: str) -> Out:
            plain = text(g, clip, words, title)
            if self.guidance is None:
                return plain
            return g.add("FluxGuidance", f"Guidance: {title.lower()}", conditioning=plain, guidance=self.guidance)[0]

        prompt = encoded(PROMPT + self.suffix, "Prompt")
        negative = prompt if self.guidance else encoded(self.negative, "Negative prompt")
        g.column("Source")
        source = own_video(g, model, vae, self.size)
        g.column("Learn")
        caption = encoded(CAPTION, "Caption of the source")
        preview = {"vae": vae, "preview_prompt": prompt, "preview_negative": negative, "preview_every": 250}
        given = {"run_name": self.name, "frames": source.frames, "fps": source.fps, **preview}
        room = {"tall": 710} if self.guidance else {}  # beneath one node more
        adapter, _ = train(g, model, source.latents, caption, source.tracks, **given, **room)
        g.column("Replay")
        save_adapter(g, adapter, source.drawn, self.name)
        moved = apply(g, model, adapter)
        given = {"fps": source.fps, "tiled": True, **self.settings}
        result, without, video = with_and_without(g, (model, moved), (prompt, negative), source.empty, vae, **given)
        g.column("Result", WIDE)
        compare(g, source.frames, result, without, source.fps, f"det/{self.name} compared")
        save_video(g, video, f"det/{self.name}")
        evaluate(g, source.tracks, result, height=304)


def in_seconds(g: Graph, base: Large, note: str) -> None:
    """Guidance instead of training, over a base whose negative prompt is empty, as what the source is read with."""
    g.column()
    g.note(note, 520)
    model, clip, vae = loaded(g, base.loaders)
    g.column("Source")
    source = own_video(g, model, vae, base.size)
    g.column("Guide")
    prompt = text(g, clip, PROMPT, "Prompt")
    empty = text(g, clip, base.negative, "Empty prompt")
    guided = guide(g, model, source.latents, empty)
    given = {"fps": source.fps, "tiled": True, **base.settings}
    result, without, video = with_and_without(g, (model, guided), (prompt, empty), source.empty, vae, **given)
    g.column("Result", WIDE)
    compare(g, source.frames, result, without, source.fps, f"det/{base.name} guided compared")
    save_video(g, video, f"det/{base.name} guided")
    evaluate(g, source.tracks, result, height=304)


COGVIDEOX = Large(
    "cogvideox",
    loaders(
        "CogVideoX-5B",
        "diffusers/CogVideoX-5b",
        ("CLIPLoader", {"clip_name": "t5xxl_fp16.safetensors", "type": "cogvideox", "device": "default"}),
        ("VAELoader", "cogvideox_vae.safetensors"),
    ),
    (720, 480, 49),
    "cogvideox motion",
    {"steps": 50, "cfg": 6.0},
)

HUNYUAN = Large(
    "hunyuan",
    loaders(
        "HunyuanVideo",
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
        ("VAELoader", "hunyuan_video_vae_bf16.safetensors"),
    ),
    (768, 512, 49),
    "hunyuan motion",
    {"steps": 30, "cfg": 1.0, "shift": 7.0},
    guidance=6.0,
)

WAN_LOADERS = loaders(
    "Wan 2.1",
    "wan2.1_t2v_1.3B_fp16.safetensors",
    ("CLIPLoader", {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"}),
    ("VAELoader", "wan_2.1_vae.safetensors"),
)
WAN = Large("wan", WAN_LOADERS, (832, 480, 49), "wan motion", {"steps": 30, "cfg": 5.0, "shift": 5.0})

# The published positive and negative prompt; `det_core.models.stepvideo.prompt` has the same for the command line.
STEP_POSITIVE = (
    "超高清、HDR 视频、环境光、杜比全景声、画面稳定、流畅动作、逼真的细节、专业级构图、超现实主义、自然、生动、超细节、"
    "清晰。"
)
STEP_NEGATIVE = "画面暗、低分辨率、不良手、文本、缺少手指、多余的手指、裁剪、低质量、颗粒状、签名、水印、用户名、模糊。"
STEP_VIDEO = Large(
    "stepvideo",
    loaders(
        "Step-Video-T2V",
        "diffusers/stepvideo-t2v",
        ("DeTLoadStepVideoText", {"folder": "stepvideo-t2v"}),
        ("DeTLoadStepVideoVAE", "diffusers/stepvideo-t2v/vae/vae_v2.safetensors"),
    ),
    (768, 512, 51),
    "step-video motion",
    {"steps": 50, "cfg": 9.0},
    suffix=STEP_POSITIVE,
    negative=STEP_NEGATIVE,
)

"""The model files that the workflows load: where ComfyUI can fetch each, into which folder, how large it is.

Addresses are those of ComfyUI's own templates. Sizes are rounded, in GB of 10^9 bytes; those that nobody stated are
left out rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

_HUB = "https://huggingface.co/"
_WAN22 = f"{_HUB}Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
_WAN21 = f"{_HUB}Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
_HUNYUAN = f"{_HUB}Comfy-Org/HunyuanVideo_repackaged/resolve/main/split_files"
_H3 = f"{_HUB}Comfy-Org/MiniMax-H3/resolve/main"
_LTX25 = f"{_HUB}Lightricks/LTX-2.5/resolve/main"


@dataclass(frozen=True)
class File:
    """directory: below models/. address: of the folder that it lies in."""

    directory: str
    address: str
    gb: float | None = None

    def entry(self, name: str) -> dict[str, str]:
        """What a loader's `properties.models` says of it."""
        return {"name": name, "url": f"{self.address}/{name}", "directory": self.directory}


FILES = {
    "t5xxl_fp16.safetensors": File("text_encoders", f"{_HUB}comfyanonymous/flux_text_encoders/resolve/main", 9.8),
    "clip_l.safetensors": File("text_encoders", f"{_HUB}comfyanonymous/flux_text_encoders/resolve/main", 0.2),
    "cogvideox_vae.safetensors": File("vae", f"{_HUB}Comfy-Org/void-model/resolve/main/vae"),
    "hunyuan_video_t2v_720p_bf16.safetensors": File("diffusion_models", f"{_HUNYUAN}/diffusion_models", 25.6),
    "llava_llama3_fp8_scaled.safetensors": File("text_encoders", f"{_HUNYUAN}/text_encoders", 9.1),
    "hunyuan_video_vae_bf16.safetensors": File("vae", f"{_HUNYUAN}/vae", 0.5),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": File("text_encoders", f"{_WAN21}/text_encoders", 6.7),
    "wan_2.1_vae.safetensors": File("vae", f"{_WAN22}/vae", 0.3),
    "wan2.1_t2v_1.3B_fp16.safetensors": File("diffusion_models", f"{_WAN21}/diffusion_models", 2.8),
    **{
        f"wan2.2_{task}_{noise}_noise_14B_fp8_scaled.safetensors": File(
            "diffusion_models", f"{_WAN22}/diffusion_models", 14.3
        )
        for task in ("t2v", "i2v")
        for noise in ("high", "low")
    },
    **{
        f"wan2.2_{task}_lightx2v_4steps_lora_{version}_{noise}_noise.safetensors": File("loras", f"{_WAN22}/loras", 1.2)
        for task, version in (("t2v", "v1.1"), ("i2v", "v1"))
        for noise in ("high", "low")
    },
    "ltx-2.3-22b-dev-fp8.safetensors": File("checkpoints", f"{_HUB}Lightricks/LTX-2.3-fp8/resolve/main"),
    "gemma_3_12B_it_fp4_mixed.safetensors": File(
        "text_encoders", f"{_HUB}Comfy-Org/ltx-2/resolve/main/split_files/text_encoders"
    ),
    "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors": File(
        "loras", f"{_HUB}Comfy-Org/ltx-2.3/resolve/main/split_files/loras"
    ),
    "ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors": File(
        "diffusion_models", f"{_LTX25}/diffusion_models"
    ),
    "gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors": File("text_encoders", f"{_LTX25}/text_encoders"),
    "ltx-2.5-video-vae-bf16.safetensors": File("vae", f"{_LTX25}/vae"),
    "ltx-2.5-audio-vae-bf16.safetensors": File("vae", f"{_LTX25}/vae"),
    "minimax_h3_fl2va_pruned_int8_convrot.safetensors": File("diffusion_models", f"{_H3}/diffusion_models"),
    "qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors": File("text_encoders", f"{_H3}/text_encoders"),
    "minimax_h3_video_vae_fp16.safetensors": File("vae", f"{_H3}/vae"),
    "minimax_h3_audio_vae_fp32.safetensors": File("vae", f"{_H3}/vae"),
    "minimax_h3_fl2v_turbo_8step_v1.0_comfyui_bf16.safetensors": File(
        "loras", f"{_HUB}lightx2v/Minimax-h3-Turbo/resolve/main"
    ),
}


def listed(names: list[str]) -> str:
    """The files of one workflow for its note."""
    lines = []
    for name in sorted(names, key=lambda name: (FILES[name].directory, name)):
        file = FILES[name]
        size = f", {file.gb:g} GB" if file.gb else ""
        lines.append(f"- *{file.directory}*: [{name.removesuffix('.safetensors')}]({file.address}/{name}){size}")
    return "\n".join(lines)

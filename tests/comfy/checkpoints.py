"""Small random checkpoints of the supported architectures, as files that ComfyUI's loaders read.

Head widths (64 for CogVideoX, 128 for HunyuanVideo and Wan) and text widths are the real models': ComfyUI derives the
rest from shapes. All matrices are random; diffusers starts some at zero.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

TEXT_WIDTH = 4096
POOLED_WIDTH = 768

COGVIDEOX = dict(
    num_attention_heads=2,
    attention_head_dim=64,
    in_channels=16,
    out_channels=16,
    time_embed_dim=64,
    text_embed_dim=TEXT_WIDTH,
    num_layers=4,
    max_text_seq_length=16,
    use_rotary_positional_embeddings=True,
)
HUNYUAN = dict(
    num_attention_heads=2,
    attention_head_dim=128,
    in_channels=16,
    out_channels=16,
    num_layers=2,
    num_single_layers=2,
    num_refiner_layers=2,
    text_embed_dim=TEXT_WIDTH,
    pooled_projection_dim=POOLED_WIDTH,
    guidance_embeds=True,
)
WAN = dict(
    num_attention_heads=2,
    attention_head_dim=128,
    in_channels=16,
    out_channels=16,
    text_dim=TEXT_WIDTH,
    freq_dim=256,
    ffn_dim=512,
    num_layers=4,
)
LTX = dict(
    num_attention_heads=32,
    attention_head_dim=4,
    in_channels=128,
    out_channels=128,
    cross_attention_dim=128,
    num_layers=2,
    caption_channels=TEXT_WIDTH,
)

# Files of the workflows that small random models of ComfyUI's own classes stand for: (case of `small_models`, folder).
NATIVE = {
    "ltx-2.3-22b-dev-fp8": ("LTX-2.3", "checkpoints"),
    "ltx-2.5-22b-distilled-transformer-comfy-int8-convrot": ("LTX-2.5", "diffusion_models"),
    "wan2.2_t2v_high_noise_14B_fp8_scaled": ("Wan 2.1 T2V, Wan 2.2 A14B T2V", "diffusion_models"),
    "wan2.2_t2v_low_noise_14B_fp8_scaled": ("Wan 2.1 T2V, Wan 2.2 A14B T2V", "diffusion_models"),
    "wan2.2_i2v_high_noise_14B_fp8_scaled": ("Wan 2.2 A14B I2V", "diffusion_models"),
    "wan2.2_i2v_low_noise_14B_fp8_scaled": ("Wan 2.2 A14B I2V", "diffusion_models"),
    "minimax_h3_fl2va_pruned_int8_convrot": ("MiniMax H3, pruned, with sound", "diffusion_models"),
}

LORAS = (
    "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16",
    "minimax_h3_fl2v_turbo_8step_v1.0_comfyui_bf16",
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise",
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_low_noise",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise",
)

LISTED_ONLY = (
    "text_encoders/t5xxl_fp16.safetensors",
    "text_encoders/clip_l.safetensors",
    "text_encoders/llava_llama3_fp8_scaled.safetensors",
    "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "vae/cogvideox_vae.safetensors",
    "vae/hunyuan_video_vae_bf16.safetensors",
    "vae/wan_2.1_vae.safetensors",
    "text_encoders/gemma_3_12B_it_fp4_mixed.safetensors",
    "text_encoders/gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors",
    "text_encoders/qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors",
    "vae/ltx-2.5-video-vae-bf16.safetensors",
    "vae/ltx-2.5-audio-vae-bf16.safetensors",
    "vae/minimax_h3_video_vae_fp16.safetensors",
    "vae/minimax_h3_audio_vae_fp32.safetensors",
)

CLASSES = {
    "cogvideox": ("CogVideoXTransformer3DModel", COGVIDEOX),
    "hunyuan_video": ("HunyuanVideoTransformer3DModel", HUNYUAN),
    "wan": ("WanTransformer3DModel", WAN),
    "ltx": ("LTXVideoTransformer3DModel", LTX),
}


def transformer(family: str, seed: int = 0, **changes) -> nn.Module:
    """A diffusers transformer with every weight random."""
    import diffusers

    name, config = CLASSES[family]
    model = getattr(diffusers, name)(**{**config, **changes})
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = noise * 0.1 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
    return model.eval().requires_grad_(False)


def save_native(family: str, model: nn.Module, path: Path, **metadata: str) -> None:
    """One file with ComfyUI's key names."""
    from safetensors.torch import save_file

    from det_core.models.families import to_native

    state = to_native(family, model.state_dict())
    save_file({k: v.clone().contiguous() for k, v in state.items()}, path, metadata=metadata or None)


def save_folder(model: nn.Module, folder: Path, shards: int = 2) -> None:
    """A diffusers folder: <folder>/transformer with config.json and sharded weights, as repositories have it."""
    from safetensors.torch import save_file

    path = folder / "transformer"
    path.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": type(model).__name__, **model.config}
    (path / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k == "_class_name" or not k.startswith("_")}, default=str)
    )
    items = [(k, v.clone().contiguous()) for k, v in model.state_dict().items()]
    size, index = -(-len(items) // shards), {}
    for shard in range(shards):
        name = f"diffusion_pytorch_model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(items[shard * size : (shard + 1) * size])
        save_file(part, path / name)
        index.update(dict.fromkeys(part, name))
    (path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def write_step_video(folder: Path) -> None:
    """The published folder whole: text encoders and VAE are small models, too, not stand-ins."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from stepvideo_folder import write_folder

    write_folder(folder)


def write_native(models: Path) -> None:
    """`NATIVE`, and for each LoRA of the workflows one that is a LoRA of that model. Needs ComfyUI's modules."""
    from safetensors.torch import save_file
    from small_models import CASES, build

    for number, (name, (case, folder)) in enumerate(NATIVE.items()):
        unet = {**CASES[case].unet} | ({"text_dim": TEXT_WIDTH} if "wan" in name else {})
        prefix = "model.diffusion_model." if folder == "checkpoints" else ""
        model = build(CASES[case].config, unet, seed=number).model.diffusion_model
        state = {prefix + k: v.clone().contiguous() for k, v in model.state_dict().items()}
        told = json.dumps({"transformer": {k: v for k, v in unet.items() if k != "image_model"}})
        (models / folder).mkdir(parents=True, exist_ok=True)
        save_file(state, models / folder / f"{name}.safetensors", metadata={"config": told})
    (models / "loras").mkdir(parents=True, exist_ok=True)
    for name in LORAS:
        tap = "blocks.0.attn.out_proj" if "h3" in name else "blocks.0.self_attn.o"
        tap = "transformer_blocks.0.attn1.to_out.0" if "ltx" in name else tap
        width, inside = (128, 128) if "wan" in name else (32, 32)
        generator = torch.Generator().manual_seed(len(name))
        pair = {"lora_up": (width, 2), "lora_down": (2, inside)}
        keys = {f"diffusion_model.{tap}.{k}.weight": 0.1 * torch.randn(v, generator=generator) for k, v in pair.items()}
        save_file(keys, models / "loras" / f"{name}.safetensors")


def write_checkpoints(base: Path) -> None:
    """What the workflows and tests load, under the names that the workflows use."""
    models = base / "models"
    write_native(models)
    save_folder(transformer("cogvideox"), models / "diffusers" / "CogVideoX-5b")
    save_folder(transformer("cogvideox", use_rotary_positional_embeddings=False), models / "diffusers" / "CogVideoX-2b")
    save_native("cogvideox", transformer("cogvideox"), models / "diffusion_models" / "cogvideox_native.safetensors")
    save_native(
        "hunyuan_video",
        transformer("hunyuan_video"),
        models / "diffusion_models" / "hunyuan_video_t2v_720p_bf16.safetensors",
    )
    write_step_video(models / "diffusers" / "stepvideo-t2v")
    save_native("wan", transformer("wan"), models / "diffusion_models" / "wan2.1_t2v_1.3B_fp16.safetensors")
    for name in LISTED_ONLY:  # what the workflows' other loaders list; tests put stand-ins in their place
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).touch()
    (models / "diffusion_models" / "not_a_dit.safetensors").write_bytes(
        (models / "diffusers" / "CogVideoX-5b" / "transformer" / "config.json").read_bytes()
    )

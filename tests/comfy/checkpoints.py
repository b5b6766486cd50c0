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

LISTED_ONLY = (
    "text_encoders/t5xxl_fp16.safetensors",
    "text_encoders/clip_l.safetensors",
    "text_encoders/llava_llama3_fp8_scaled.safetensors",
    "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "vae/cogvideox_vae.safetensors",
    "vae/hunyuan_video_vae_bf16.safetensors",
    "vae/wan_2.1_vae.safetensors",
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


def write_checkpoints(base: Path) -> None:
    """What the workflows and tests load, under the names that the workflows use."""
    models = base / "models"
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

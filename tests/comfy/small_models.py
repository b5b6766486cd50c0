"""Small random models of every video class of ComfyUI 0.33, with conditioning for the forms that they are used in.

They are built from the core's own model configurations, in memory; `quantised` gives a model's quantised twin.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

HEIGHT, WIDTH, FRAMES = 8, 8, 3
_WAN = dict(image_model="wan2.1", dim=128, num_heads=1, ffn_dim=64, num_layers=3, text_dim=32, freq_dim=32, in_dim=16)
_HUNYUAN = dict(
    image_model="hunyuan_video", in_channels=16, out_channels=16, hidden_size=128, num_heads=1, mlp_ratio=4.0, depth=2,
    depth_single_blocks=2, axes_dim=[16, 56, 56], theta=256, patch_size=[1, 2, 2], qkv_bias=True, guidance_embed=True,
    context_in_dim=32, vec_in_dim=48, byt5=False, meanflow=False, use_cond_type_embedding=False, vision_in_dim=None,
    meanflow_sum=False,
)  # fmt: skip
_HUNYUAN15 = _HUNYUAN | dict(
    in_channels=65, out_channels=32, depth_single_blocks=0, patch_size=[1, 1, 1], guidance_embed=False, vec_in_dim=None,
    byt5=True, use_cond_type_embedding=True, vision_in_dim=1152, meanflow_sum=True, mlp_ratio=1.0,
)  # fmt: skip
_LTX = dict(
    image_model="ltxv", num_layers=3, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
    caption_channels=32,
)  # fmt: skip
LTXAV = dict(
    image_model="ltxav", num_layers=3, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
    audio_num_attention_heads=2, audio_attention_head_dim=8, audio_cross_attention_dim=16, caption_channels=24,
    positional_embedding_max_pos=[20, 2048, 2048], audio_positional_embedding_max_pos=[20],
    causal_temporal_positioning=True, use_middle_indices_grid=True, rope_type="split", frequencies_precision="float64",
    connector_attention_head_dim=8, connector_num_attention_heads=4, connector_num_layers=1,
    audio_connector_attention_head_dim=8, audio_connector_num_attention_heads=2,
)  # fmt: skip
LTX23 = LTXAV | dict(
    caption_channels=32, caption_proj_before_connector=True, caption_projection_first_linear=False,
    cross_attention_adaln=True, apply_gated_attention=True, connector_apply_gated_attention=True,
)  # fmt: skip
LTX25 = LTX23 | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True)
H3 = dict(
    image_model="minimax_h3", hidden_size=32, num_layers=3, token_refiner_num_layers=1, num_attention_heads=2,
    attention_head_dim=16, ffn_hidden_size=64, latents_dim=24, audio_latents_dim=32, text_dim=40, timestep_input_dim=16,
    time_embed_hidden_size=32, time_embed_dim=24, rope_inv_freq_len=2,
)  # fmt: skip
_COG = dict(
    image_model="cogvideox", num_attention_heads=2, attention_head_dim=64, time_embed_dim=32, num_layers=3,
    text_embed_dim=32, in_channels=16, patch_size=2, use_rotary_positional_embeddings=True,
)  # fmt: skip


def randomly(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _clip(*lengths: int) -> dict:
    """CLIP vision outputs under their conditioning names."""
    return {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=randomly(1, lengths[0], 1280))}


def _given(channels: int = 16, frames: int = FRAMES, masks: int = 4) -> dict:
    """The picture of image-to-video: the first latent frame is known."""
    mask = torch.ones(1, masks, frames, HEIGHT, WIDTH)
    mask[:, :, :1] = 0
    return {"concat_latent_image": randomly(1, channels, frames, HEIGHT, WIDTH), "concat_mask": mask}


def _vace(reference: bool = False) -> dict:
    from comfy.latent_formats import Wan21

    frames, mask = randomly(1, 32, FRAMES, HEIGHT, WIDTH), torch.ones(1, 64, FRAMES, HEIGHT, WIDTH)
    if reference:
        front = torch.cat(
            [randomly(1, 16, 1, HEIGHT, WIDTH), Wan21().process_out(torch.zeros(1, 16, 1, HEIGHT, WIDTH))], 1
        )
        frames, mask = torch.cat([front, frames], 2), torch.cat([torch.zeros_like(mask[:, :, :1]), mask], 2)
    return {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [1.0]}


@dataclass(frozen=True)
class Case:
    """One way in which one class is used.

    extra: what the conditioning carries beside the text. works: whether adapters and LoRAs work on it; otherwise a
    piece of the sentence that refuses it, by the node named in `refused_by`.
    """

    config: str  # class of comfy.supported_models
    unet: dict
    extra: Callable[[], dict] = dict
    channels: int = 16
    frames: int = FRAMES
    text: int = 32  # width of the text encoding
    size: tuple[int, int] = (HEIGHT, WIDTH)
    options: dict = field(default_factory=dict)

    def model(self):
        return build(self.config, self.unet)

    def conditioning(self, seed: int = 5) -> list:
        pooled = randomly(1, 48, seed=seed)
        return [[randomly(1, 6, self.text, seed=seed), {"pooled_output": pooled, **self.extra()}]]

    def latents(self, seed: int = 8) -> torch.Tensor:
        return randomly(1, self.channels, self.frames, *self.size, seed=seed)


def fill(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter and buffer random, of a size at which signals keep theirs."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if "inv_freq" in name:
            value = 10000.0 ** -(torch.arange(tensor.numel()) / tensor.numel()).reshape(tensor.shape)
        elif name.endswith("adaln_t_table"):
            value = 0.3 * noise.cumsum(0)
        elif tensor.ndim > 1:
            value = noise * tensor[0].numel() ** -0.5
        else:
            value = noise * 0.1 + (1.0 if "norm" in name and name.endswith(("weight", "scale")) else 0.0)
        tensor.data = value.to(tensor.dtype)


def build(config_class: str, unet: dict, seed: int = 0):
    """A ModelPatcher over a small random model of `comfy.supported_models.<config_class>`."""
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, config_class)({**unet, "disable_unet_model_creation": False})
    config.unet_config.pop("disable_unet_model_creation")
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    fill(model.diffusion_model, seed)
    model.eval().requires_grad_(False)
    return comfy.model_patcher.CoreModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())


def loaded(state_dict: dict, unet: dict, **options):
    """A ModelPatcher from weights in memory, as core's own loader makes it."""
    import comfy.sd

    metadata = {"config": json.dumps({"transformer": {k: v for k, v in unet.items() if k != "image_model"}})}
    return comfy.sd.load_diffusion_model_state_dict(state_dict, model_options=options, metadata=metadata)


# Name -> (format in the file, layout of comfy_kitchen, how its layout quantises, what the file says beside the format).
_ROTATED = {"convrot": True, "convrot_groupsize": 16}
FORMATS = {
    "int8": ("int8_tensorwise", "TensorWiseINT8Layout", {"scale": "recalculate"}, {}),
    "int8 by row": ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True}, {}),
    "int8 ConvRot": ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True, **_ROTATED}, _ROTATED),
    "scaled fp8": ("float8_e4m3fn", "TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, {}),
    "scaled fp8, full products": (
        "float8_e4m3fn",
        "TensorCoreFP8E4M3Layout",
        {"scale": "recalculate"},
        {"full_precision_matrix_mult": True},
    ),
    "scaled fp8 e5m2": ("float8_e5m2", "TensorCoreFP8E5M2Layout", {"scale": "recalculate"}, {}),
    "mxfp8": ("mxfp8", "TensorCoreMXFP8Layout", {}, {}),
    "nvfp4": ("nvfp4", "TensorCoreNVFP4Layout", {}, {}),
    "ConvRot w4a4": (
        "convrot_w4a4",
        "TensorCoreConvRotW4A4Layout",
        {"convrot_groupsize": 16},
        {"convrot_groupsize": 16},
    ),
    "w4a8": (
        "asym_w4a8_int8",
        "AsymW4A8Int8Layout",
        {"group_size": 16, "convrot_groupsize": 16},
        {"group_size": 16, "convrot_groupsize": 16},
    ),
}


def quantised_state_dict(state_dict: dict, form: str) -> dict:
    """The matrices of the blocks quantised as files of the format `form` (of FORMATS) hold them; the rest unchanged."""
    from comfy.quant_ops import QuantizedTensor

    name, layout, how, also = FORMATS[form]
    marker = torch.tensor(list(json.dumps({"format": name, **also}).encode()), dtype=torch.uint8)
    out = {}
    for key, value in state_dict.items():
        inside = key.endswith(".weight") and "blocks." in key and "refiner" not in key and "connector" not in key
        if not inside or value.ndim != 2 or any(size % 64 for size in value.shape):
            out[key] = value
            continue
        wrapped = QuantizedTensor.from_float(value, layout, **how)
        tensors = wrapped.state_dict(key)
        if name in ("mxfp8", "nvfp4"):
            tensors[f"{key}_scale"] = tensors[f"{key}_scale"].view(torch.uint8)
        out |= tensors
        out[f"{key.removesuffix('weight')}comfy_quant"] = marker
    return out

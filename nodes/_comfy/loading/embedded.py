"""The embedded DiTs as MODEL, CLIP and VAE: plain objects with the few methods that ComfyUI's own nodes call."""

from __future__ import annotations

import functools

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models
import torch

from ....det_core.models.base_model import EMBEDDED, EMBEDDED_WORLD
from ....det_core.models.compute.precision import autocast, fast_bf16
from .dit_loader import build_dit

CONFIG = {"use_rotary_positional_embeddings": False, "snr_shift_scale": 1.0}


class EmbeddedDiT(comfy.model_base.CogVideoX):
    """Computes as on the command line: on a CPU with instructions for bfloat16 under autocast, in half the time."""

    def _apply_model(self, x, *args, **kwargs):
        with autocast(x.device, x.device.type == "cpu" and fast_bf16(x.device)):
            return super()._apply_model(x, *args, **kwargs)


class EmbeddedConfig(comfy.supported_models.CogVideoX_T2V):
    def get_model(self, state_dict, prefix="", device=None):
        return EmbeddedDiT(self, device=device)


class WorldLatents(comfy.latent_formats.CogVideoX):
    """Of model 2: as model 1's, with 24 channels."""

    latent_channels = 24


class WorldConfig(EmbeddedConfig):
    """ComfyUI takes a CogVideoX that reads 48 channels for an inpainting model whose latents have 16. Model 2's have
    24, and the other 24 are a first frame's, which ComfyUI fills from `concat_latent_image` or with zeros."""

    latent_format = WorldLatents

    def __init__(self, unet_config: dict):
        super().__init__({**unet_config, "out_channels": WorldLatents.latent_channels})


CONFIGS = {EMBEDDED: EmbeddedConfig, EMBEDDED_WORLD: WorldConfig}


@functools.cache
def tiny_model(name: str = EMBEDDED):
    """An embedded model in diffusers form, read once."""
    from ....det_core.models.embedded.model import TinyModel
    from ....det_core.models.embedded.world.model import load_world

    with torch.inference_mode(False):
        return load_world() if name == EMBEDDED_WORLD else TinyModel.load()


def load_tiny(name: str = EMBEDDED, disable_dynamic: bool = False):
    """An embedded DiT as a ModelPatcher over ComfyUI's own CogVideoX class."""
    # The table of positions is computed for every size, not stored for one.
    weights = {
        k: v.clone() for k, v in tiny_model(name).transformer.state_dict().items() if not k.endswith("pos_embedding")
    }
    patcher = build_dit(
        weights,
        CONFIG,
        {"dtype": torch.float32},
        name="the embedded DiT",
        disable_dynamic=disable_dynamic,
        model_config=CONFIGS[name],
    )
    patcher.cached_patcher_init = (load_tiny, (name,))
    return patcher


class TinyClip:
    """The text encoder of an embedded DiT, as far as CLIPTextEncode goes: a fixed vector a word."""

    def __init__(self, name: str = EMBEDDED):
        self.name = name

    def tokenize(self, text: str, **_) -> dict:
        return {"tiny": text}

    def encode_from_tokens_scheduled(self, tokens: dict, **_) -> list:
        encoding = tiny_model(self.name).text.encode([tokens["tiny"]])
        return [[encoding, {"pooled_output": encoding.mean(dim=1)}]]


class TinyVAE:
    """The codec of an embedded DiT as a VAE: latents leave it divided by the model's latent scale, as ComfyUI expects.

    Convention: pixels are (T, H, W, 3) or (B, T, H, W, 3) in [0, 1]; latents are (B, C, T, H/8, W/8), one latent frame
        per video frame; C is 16 for model 1 and 24 for model 2.
    """

    latent_dim = 3
    output_channels = 3

    def __init__(self, scale_factor: float, name: str = EMBEDDED):
        self.scale_factor, self.name = scale_factor, name
        self.latent_channels = len(tiny_model(name).codec.basis)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        video = pixels if pixels.ndim == 5 else pixels[None]
        height, width = video.shape[2] // 8 * 8, video.shape[3] // 8 * 8
        if not height or not width:
            raise ValueError(
                f"the embedded model needs frames of at least 8x8 pixels; got {video.shape[3]}x{video.shape[2]}"
            )
        latents = tiny_model(self.name).codec.encode(video[:, :, :height, :width, :3].float().cpu())
        return (latents / self.scale_factor).to(comfy.model_management.intermediate_device())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        frames = tiny_model(self.name).codec.decode(latents.float().cpu() * self.scale_factor)
        return frames.to(comfy.model_management.intermediate_device())

    def encode_tiled(self, pixels: torch.Tensor, **_) -> torch.Tensor:
        return self.encode(pixels)

    def decode_tiled(self, latents: torch.Tensor, **_) -> torch.Tensor:
        return self.decode(latents)

    def spacial_compression_encode(self) -> int:
        return 8

    def spacial_compression_decode(self) -> int:
        return 8

    def temporal_compression_decode(self) -> int | None:
        return None

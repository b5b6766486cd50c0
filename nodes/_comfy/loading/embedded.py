"""The embedded DiT as MODEL, CLIP and VAE: plain objects with the few methods that ComfyUI's own nodes call."""

from __future__ import annotations

import functools

import comfy.model_management
import torch

from .dit_loader import build_dit

CONFIG = {"use_rotary_positional_embeddings": False, "snr_shift_scale": 1.0}


@functools.cache
def tiny_model():
    """The embedded model in diffusers form, read once."""
    from ....det_core.models.embedded.model import TinyModel

    with torch.inference_mode(False):
        return TinyModel.load()


def load_tiny(disable_dynamic: bool = False):
    """The embedded DiT as a ModelPatcher over ComfyUI's own CogVideoX class."""
    # The table of positions is computed for every size, not stored for one.
    weights = {
        k: v.clone() for k, v in tiny_model().transformer.state_dict().items() if not k.endswith("pos_embedding")
    }
    patcher = build_dit(
        weights, CONFIG, {"dtype": torch.float32}, name="the embedded DiT", disable_dynamic=disable_dynamic
    )
    patcher.cached_patcher_init = (load_tiny, ())
    return patcher


class TinyClip:
    """The text encoder of the embedded DiT, as far as CLIPTextEncode goes: a fixed vector a word."""

    def tokenize(self, text: str, **_) -> dict:
        return {"tiny": text}

    def encode_from_tokens_scheduled(self, tokens: dict, **_) -> list:
        encoding = tiny_model().text.encode([tokens["tiny"]])
        return [[encoding, {"pooled_output": encoding.mean(dim=1)}]]


class TinyVAE:
    """The codec of the embedded DiT as a VAE: latents leave it divided by the model's latent scale, as ComfyUI expects.

    Convention: pixels are (T, H, W, 3) or (B, T, H, W, 3) in [0, 1]; latents are (B, 16, T, H/8, W/8), one latent
        frame per video frame.
    """

    latent_channels = 16
    latent_dim = 3
    output_channels = 3

    def __init__(self, scale_factor: float):
        self.scale_factor = scale_factor

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        video = pixels if pixels.ndim == 5 else pixels[None]
        height, width = video.shape[2] // 8 * 8, video.shape[3] // 8 * 8
        if not height or not width:
            raise ValueError(
                f"the embedded model needs frames of at least 8x8 pixels; got {video.shape[3]}x{video.shape[2]}"
            )
        latents = tiny_model().codec.encode(video[:, :, :height, :width, :3].float().cpu())
        return (latents / self.scale_factor).to(comfy.model_management.intermediate_device())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        frames = tiny_model().codec.decode(latents.float().cpu() * self.scale_factor)
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

"""Step-Video's codec as an ordinary VAE, for VAE Encode, VAE Decode and their tiled nodes."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch

from ....det_core.models.stepvideo.vae import (
    CELL,
    CHUNK,
    LATENT_CHUNK,
    StepVideoVAE,
    file_keys,
    latent_frames,
    published_sizes,
)

# Peak of one chunk, elements a pixel of the picture, counted by running the published sizes with every storage counted.
ENCODE_ELEMENTS, DECODE_ELEMENTS = 11_200, 18_600


class StepVideoCodec(comfy.sd.VAE):
    """`comfy.sd.VAE` builds what it recognises; everything that its methods read is set here instead."""

    def __init__(self, module: StepVideoVAE, state_dict: dict[str, torch.Tensor]):
        """Raises ValueError if a tensor is missing or has another shape."""
        self.latent_channels, self.latent_dim, self.output_channels = module.latent_channels, 3, 3
        self.downscale_ratio = (_latent_length, CELL, CELL)
        self.upscale_ratio = (_pixel_length, CELL, CELL)
        self.downscale_index_formula = self.upscale_index_formula = None
        self.process_input = _to_signed
        self.process_output = _to_unit
        self.memory_used_encode = _encode_bytes
        self.memory_used_decode = _decode_bytes
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.handles_tiling, self.crop_input = True, True
        self.disable_offload = self.not_video = False
        self.pad_channel_value = self.extra_1d_channel = self.format_encoded = self.size = None
        self.audio_sample_rate = 44100
        self.device = mm.vae_device()
        self.vae_dtype = mm.vae_dtype(self.device, self.working_dtypes)
        self.output_device = mm.intermediate_device()
        self.first_stage_model = module.eval().requires_grad_(False).to(self.vae_dtype)
        mm.archive_model_dtypes(self.first_stage_model)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=mm.vae_offload_device()
        )
        try:
            module.load_state_dict(state_dict, assign=self.patcher.is_dynamic())
        except RuntimeError as error:
            raise ValueError(f"the VAE's weights are incomplete: {error}") from None
        self.model_size()

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor:
        """Frames (T, H, W, 3) or (B, T, H, W, 3) -> latents; T is checked before anything is loaded."""
        latent_frames(pixel_samples.shape[-4])
        return super().encode(pixel_samples)

    def encode_tiled(self, pixel_samples: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        latent_frames(pixel_samples.shape[-4])
        return super().encode_tiled(pixel_samples, *args, **kwargs)


def load_vae(path: Path) -> StepVideoCodec:
    """The VAE in a file. Raises ValueError, naming the file, if it is not the version that the transformer reads."""
    try:
        state_dict = file_keys(comfy.utils.load_torch_file(str(path)))
        sizes = published_sizes(state_dict)
        return StepVideoCodec(StepVideoVAE(**sizes, operations=comfy.ops.disable_weight_init), state_dict)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _latent_length(frames: int) -> int:
    return max(1, frames // CHUNK * LATENT_CHUNK)


def _pixel_length(latents: int) -> int:
    return max(1, latents // LATENT_CHUNK * CHUNK)


def _to_signed(pixels: torch.Tensor) -> torch.Tensor:
    return pixels * 2.0 - 1.0


def _to_unit(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.add_(1.0).div_(2.0).clamp_(0.0, 1.0)


def _encode_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return ENCODE_ELEMENTS * shape[-2] * shape[-1] * mm.dtype_size(dtype)


def _decode_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return DECODE_ELEMENTS * shape[-2] * shape[-1] * CELL * CELL * mm.dtype_size(dtype)

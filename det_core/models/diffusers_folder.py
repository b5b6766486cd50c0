"""A local diffusers folder (CogVideoX, HunyuanVideo, Wan, LTX) as a `BaseModel`."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .compute.offload import offload_blocks
from .denoiser import Condition, DiffusersDenoiser
from .families import FAMILIES, spec_for

PIPELINES = tuple(family.pipeline for family in FAMILIES.values() if family.pipeline)


class DiffusersFolder:
    """See `BaseModel`. Text encoder and VAE visit the device only while they work; the transformer stays there, or with
    `low_vram` its blocks visit it one at a time."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype, *, low_vram: bool = False):
        index = folder / "model_index.json"
        if not index.is_file():
            raise ValueError(f"--model {folder}: no diffusers folder there (it would hold model_index.json)")
        pipeline_class = json.loads(index.read_text()).get("_class_name")
        if pipeline_class not in PIPELINES:
            raise ValueError(f"--model {folder} is a {pipeline_class}; supported are {', '.join(PIPELINES)}")
        from diffusers import DiffusionPipeline

        self.name = folder.name
        self.pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=dtype)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.vae.requires_grad_(False)
        if hasattr(self.pipe.vae, "enable_tiling"):
            self.pipe.vae.enable_tiling()
        transformer = self.pipe.transformer.eval().requires_grad_(False)
        if low_vram:
            offload_blocks(transformer, spec_for(transformer), device)
        else:
            transformer.to(device)
        self.denoiser = DiffusersDenoiser(transformer, self.pipe.scheduler, device=device)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        pipe, device = self.pipe, self.denoiser.device
        encoders = [e for e in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if e is not None]
        for encoder in encoders:
            encoder.to(device)
        cond = self.denoiser.spec.family.encode_prompts(pipe, prompts, device)
        for encoder in encoders:
            encoder.to("cpu")
        return {k: v.to(self.denoiser.dtype) if v.is_floating_point() else v for k, v in cond.items()}

    @torch.no_grad()
    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae.to(self.denoiser.device)
        pixels = (frames * 2 - 1).permute(3, 0, 1, 2)[None].to(vae.device, vae.dtype)
        # The released code draws from the posterior anew each step; its mode differs by the posterior's tiny deviation.
        mean, deviation = self._latent_statistics()
        latents = (vae.encode(pixels).latent_dist.mode().float() - mean) / deviation
        vae.to("cpu")
        return latents

    @torch.no_grad()
    def decode_video(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae.to(self.denoiser.device)
        mean, deviation = self._latent_statistics()
        latents = (latents.to(vae.device, torch.float32) * deviation + mean).to(vae.dtype)
        # LTX's decoder may be told a noise level; 0 asks for plain decoding.
        timed = {"temb": latents.new_zeros(1)} if getattr(vae.config, "timestep_conditioning", False) else {}
        pixels = vae.decode(latents, return_dict=False, **timed)[0]
        vae.to("cpu")
        return (pixels[0].permute(1, 2, 3, 0).float().cpu() / 2 + 0.5).clamp(0, 1)

    def _latent_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, deviation) of the VAE's latents, broadcastable to them."""
        shape, device = (1, -1, 1, 1, 1), self.denoiser.device
        return tuple(
            x.float().view(shape).to(device) for x in self.denoiser.spec.family.latent_statistics(self.pipe.vae)
        )

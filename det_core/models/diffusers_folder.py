"""A local diffusers folder (CogVideoX, HunyuanVideo, Wan, LTX) as a `BaseModel`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from ..files import checked_json
from .compute.precision import Compute
from .denoiser import Condition, DiffusersDenoiser
from .families import FAMILIES, DiTSpec, Family, spec_for

PIPELINES = {family.pipeline: family for family in FAMILIES.values() if family.pipeline}


def folder_family(folder: Path) -> tuple[Family, dict]:
    """The family of a diffusers folder and its index. Raises: ValueError if it is no folder of a supported pipeline."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"--model {folder}: no diffusers folder there (it would hold model_index.json)")
    content = checked_json(index, "content", index.read_text(encoding="utf-8", errors="replace"))
    pipeline_class = content.get("_class_name") if isinstance(content, dict) else None
    if pipeline_class not in PIPELINES:
        raise ValueError(f"--model {folder} is a {pipeline_class}; supported are {', '.join(PIPELINES)}")
    return PIPELINES[pipeline_class], content


def folder_spec(folder: Path) -> DiTSpec:
    """The spec of a diffusers folder's model, from its configuration alone: no weight is read, in a second or two.

    Raises: ValueError as `folder_family`, or if a transformer's configuration is missing or damaged.
    """
    import diffusers

    family, index = folder_family(folder)
    parts = {"transformer": None, "transformer_2": None}
    try:
        for name in parts:
            if name in index and index[name][1]:
                kind = getattr(diffusers, index[name][1])
                with torch.device("meta"):
                    parts[name] = kind.from_config(kind.load_config(folder / name, local_files_only=True))
        config = SimpleNamespace(boundary_ratio=index.get("boundary_ratio"))
        return spec_for(family.transformer_of(SimpleNamespace(**parts, config=config)))
    except (OSError, AttributeError, TypeError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"--model {folder}: its transformer's configuration cannot be read: {reason}") from None


class DiffusersFolder:
    """See `BaseModel`. Text encoder and VAE visit the device only while they work; the transformer stays there, but for
    the time of the text encoder, or with `low_vram` its blocks visit it one at a time."""

    at_once = 1

    def __init__(self, folder: Path, compute: Compute, *, low_vram: bool = False):
        self.name, self.family = folder.name, folder_family(folder)[0]
        from diffusers import DiffusionPipeline

        self.pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=compute.dtype)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.vae.requires_grad_(False)
        if hasattr(self.pipe.vae, "enable_tiling"):
            self.pipe.vae.enable_tiling()
        transformer = self.family.transformer_of(self.pipe).eval().requires_grad_(False)
        self.denoiser = DiffusersDenoiser(transformer, self.pipe.scheduler, device=compute.device, bf16=compute.bf16)
        self._low_vram = low_vram
        if low_vram:
            self.denoiser.offload()
        else:
            transformer.to(compute.device)
        self._encoded: dict[str, Condition] = {}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Each prompt is encoded once, with the transformer off the device: a text encoder may be as large. So give
        all that will be needed together, first."""
        device = self.denoiser.device
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._encoded]:
            encoders = [self.pipe.text_encoder, *filter(None, [getattr(self.pipe, "text_encoder_2", None)])]
            waiting = [] if self._low_vram else [self.denoiser.transformer]
            _move(waiting, "cpu")
            _move(encoders, device)
            for prompt in new:
                cond = self.family.encode_prompts(self.pipe, [prompt], device)
                self._encoded[prompt] = {
                    k: v.to("cpu", self.denoiser.dtype if v.is_floating_point() else v.dtype) for k, v in cond.items()
                }
            _move(encoders, "cpu")
            _move(waiting, device)
        rows = [self._encoded[prompt] for prompt in prompts]
        return {k: torch.cat([row[k] for row in rows]).to(device) for k in rows[0]}

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
        return tuple(x.float().view(shape).to(device) for x in self.family.latent_statistics(self.pipe.vae))


def _move(modules: list[torch.nn.Module], device: torch.device | str) -> None:
    for module in modules:
        module.to(device)

"""Small models of each family in ComfyUI and in diffusers, with the same weights, conditions and sources."""

from __future__ import annotations

import torch
from checkpoints import POOLED_WIDTH, TEXT_WIDTH, save_folder, save_native

TEXT_LENGTH = 16
LATENTS = {"cogvideox": (3, 8, 12), "hunyuan_video": (3, 8, 8), "wan": (3, 8, 8), "ltx": (3, 4, 6)}


def conditioning(batch: int = 1, seed: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(batch, TEXT_LENGTH, TEXT_WIDTH, generator=generator)
    return {"text": text, "pooled": torch.randn(batch, POOLED_WIDTH, generator=generator)}


def diffusers_cond(family: str, cond: dict, batch: int = 1) -> dict[str, torch.Tensor]:
    out = {"encoder_hidden_states": cond["text"].expand(batch, -1, -1)}
    if family in ("hunyuan_video", "ltx"):
        out["encoder_attention_mask"] = torch.ones(batch, TEXT_LENGTH)
    if family == "hunyuan_video":
        out["pooled_projections"] = cond["pooled"].expand(batch, -1)
    return out


def comfy_cond(family: str, cond: dict) -> list:
    extra = {"pooled_output": cond["pooled"]}
    if family == "ltx":
        extra["attention_mask"] = torch.ones(1, TEXT_LENGTH)
    return [[cond["text"], extra]]


def load(pack, tmp_path, family: str, model, name: str = "model", folder: bool = False):
    from det_pack.nodes._comfy.loading.dit_loader import load_dit

    if folder:
        save_folder(model, tmp_path / name)
        return load_dit(tmp_path / name / "transformer")
    save_native(family, model, tmp_path / f"{name}.safetensors")
    return load_dit(tmp_path / f"{name}.safetensors")


def sampled(model, family: str, cond: dict, noise: torch.Tensor, steps: int = 10) -> torch.Tensor:
    """ComfyUI's own sampling (euler, simple, no guidance), in the model's latent space."""
    import comfy.sample

    positive = comfy_cond(family, cond)
    latents = comfy.sample.sample(
        model,
        noise,
        steps,
        1.0,
        "euler",
        "simple",
        positive,
        positive,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
    )
    return model.model.process_latent_in(latents)


def ddim_scheduler(snr_shift: float = 1.0):
    """CogVideoX's own scheduler, as its pipeline configures it."""
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
        snr_shift_scale=snr_shift,
    )


def source(family: str, seed: int = 8) -> torch.Tensor:
    """Latents of the model's space."""
    return torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(seed))


def trained(spec, seed: int = 2):
    """An adapter as if trained: moderate `down`, non-zero `up`."""
    from det_core.adapter.motion_adapter import MotionAdapter

    generator = torch.Generator().manual_seed(seed)
    adapter = MotionAdapter.create(spec, 8, 3, generator=generator).requires_grad_(False)
    for kernel in adapter.blocks.values():
        kernel.down.weight.normal_(std=(kernel.dim * 3) ** -0.5, generator=generator)
        kernel.up.weight.normal_(std=0.5 * 24**-0.5, generator=generator)
    return adapter

"""Call a diffusers video transformer the way its pipeline does: axis order, rotary tables, packing, guidance."""

from __future__ import annotations

import torch
from torch import nn

from .spec import DiTSpec


def call_diffusers(
    transformer: nn.Module,
    spec: DiTSpec,
    x_t: torch.Tensor,
    t: torch.Tensor,
    cond: dict[str, torch.Tensor],
    guidance: float,
) -> torch.Tensor:
    """The velocity (B, C, T, H, W) that `transformer` predicts for latents `x_t` of that shape at times `t` (B,)."""
    if spec.name in ("cogvideox", "embedded"):
        rotary = cogvideox_rotary(transformer, x_t.shape[2:], x_t.device)
        out = transformer(x_t.transpose(1, 2), timestep=t, image_rotary_emb=rotary, return_dict=False, **cond)[0]
        return out.transpose(1, 2)
    if spec.name == "hunyuan_video":
        told = torch.full((len(x_t),), guidance * 1000.0, dtype=x_t.dtype, device=x_t.device)
        extra = {"guidance": told} if transformer.config.guidance_embeds else {}
        return transformer(x_t, timestep=t, return_dict=False, **extra, **cond)[0]
    if spec.name == "wan":
        return transformer(x_t, timestep=t, return_dict=False, **cond)[0]
    if spec.name == "ltx":
        _, _, frames, height, width = x_t.shape
        out = transformer(
            x_t.flatten(2).transpose(
                1, 2
            ),  # LTX packs latents to tokens outside the model; its patches are single cells
            timestep=t,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(8 / 25, 32, 32),  # a cell is 8 frames of 1/25 s and 32x32 pixels
            return_dict=False,
            **cond,
        )[0]
        return out.transpose(1, 2).unflatten(2, (frames, height, width))
    raise ValueError(f"no diffusers call is known for the model family {spec.name!r}")


def cogvideox_rotary(
    transformer: nn.Module, latent_grid: tuple[int, int, int], device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """CogVideoX's rotary table (cos, sin) for latents (T, H, W), each (tokens, head width); None where it has none.

    1.0: positions are those of a resize-crop region of the 480x720 training grid; 1.5 (temporal patches): plain slices.
    """
    config = transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    frames, height, width = latent_grid
    patch = config.patch_size
    grid = (height // patch, width // patch)
    base_height, base_width = config.sample_height // patch, config.sample_width // patch
    device = next(transformer.parameters()).device if device is None else device
    if config.patch_size_t is None:
        region = resize_crop_region(grid, (base_height, base_width))
        return get_3d_rotary_pos_embed(config.attention_head_dim, region, grid, frames, device=device)
    frames = (frames + config.patch_size_t - 1) // config.patch_size_t
    return get_3d_rotary_pos_embed(
        config.attention_head_dim,
        None,
        grid,
        frames,
        grid_type="slice",
        max_size=(base_height, base_width),
        device=device,
    )


def resize_crop_region(grid: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The centred region ((top, left), (bottom, right)) of the `base` grid that `grid` fills when fitted into it; both
    are (height, width) in tokens."""
    (height, width), (base_height, base_width) = grid, base
    if height / width > base_height / base_width:
        fitted_height, fitted_width = base_height, round(base_height / height * width)
    else:
        fitted_height, fitted_width = round(base_width / width * height), base_width
    top, left = round((base_height - fitted_height) / 2), round((base_width - fitted_width) / 2)
    return (top, left), (top + fitted_height, left + fitted_width)

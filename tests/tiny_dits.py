"""Small diffusers transformers with random weights, one of each family, and calls that fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from det_core.kernels.reference import temporal_conv_reference

WITH_TWINS = ("cogvideox", "hunyuan_video", "wan", "ltx")  # `native_dits` has their native blocks
FAMILIES = (*WITH_TWINS, "hunyuan_video15", "ltx2", "minimax_h3")
LATENT_CHANNELS = {f: 8 if f in ("ltx", "ltx2") else 4 for f in FAMILIES}
TEXT_WIDTH, TEXT_LENGTH = 16, 5
WIDE = {  # large enough for tokens to outweigh what is constant
    "cogvideox": dict(heads=6, attention_head_dim=64),
    "hunyuan_video": dict(heads=6, attention_head_dim=64, rope_axes_dim=(16, 24, 24)),
    "wan": dict(heads=6, attention_head_dim=64, ffn_dim=1056),
    "hunyuan_video15": dict(heads=6, attention_head_dim=64, rope_axes_dim=(16, 24, 24)),
    "ltx2": dict(heads=6, attention_head_dim=64, cross_attention_dim=384),
    "minimax_h3": dict(heads=8, attention_head_dim=32, hidden_size=192, ffn_dim=512),
}


CLASSES = {
    "cogvideox": "CogVideoXTransformer3DModel",
    "hunyuan_video": "HunyuanVideoTransformer3DModel",
    "wan": "WanTransformer3DModel",
    "ltx": "LTXVideoTransformer3DModel",
    "hunyuan_video15": "HunyuanVideo15Transformer3DModel",
    "ltx2": "LTX2VideoTransformer3DModel",
    "minimax_h3": "MiniMaxH3Transformer3DModel",
}


def own_sizes(family: str, heads: int, blocks: int) -> dict[str, Any]:
    """What one family's configuration says beside heads and channels."""
    channels = LATENT_CHANNELS[family]
    return {
        "cogvideox": dict(
            attention_head_dim=16,
            time_embed_dim=16,
            text_embed_dim=TEXT_WIDTH,
            max_text_seq_length=TEXT_LENGTH,
            use_rotary_positional_embeddings=True,
            num_layers=blocks,
        ),
        "hunyuan_video": dict(
            attention_head_dim=16,
            rope_axes_dim=(4, 6, 6),
            text_embed_dim=TEXT_WIDTH,
            pooled_projection_dim=8,
            num_refiner_layers=1,
            num_layers=blocks,
            num_single_layers=blocks,
        ),
        "wan": dict(attention_head_dim=16, text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=48, num_layers=blocks),
        "ltx": dict(
            attention_head_dim=16, cross_attention_dim=16 * heads, caption_channels=TEXT_WIDTH, num_layers=blocks
        ),
        "hunyuan_video15": dict(
            attention_head_dim=16,
            rope_axes_dim=(4, 6, 6),
            text_embed_dim=TEXT_WIDTH,
            text_embed_2_dim=TEXT_WIDTH,
            image_embed_dim=TEXT_WIDTH,
            num_refiner_layers=1,
            num_layers=blocks,
            in_channels=2 * channels + 1,
        ),
        "ltx2": dict(
            attention_head_dim=16,
            cross_attention_dim=16 * heads,
            audio_in_channels=4,
            audio_num_attention_heads=heads,
            audio_attention_head_dim=8,
            audio_cross_attention_dim=8 * heads,
            caption_channels=TEXT_WIDTH,
            rope_type="split",
            num_layers=blocks,
        ),
        "minimax_h3": dict(
            attention_head_dim=24,  # the attention is wider than the tokens, as in the real model
            hidden_size=16 * heads,
            ffn_dim=48,
            audio_in_channels=4,
            text_dim=TEXT_WIDTH,
            freq_dim=16,
            time_embed_hidden_dim=16,
            time_embed_dim=16,
            rope_freq_dim=3,
            num_refiner_layers=1,
            num_layers=blocks,
        ),
    }[family]


def build(family: str, *, heads: int = 2, blocks: int = 2, seed: int = 0, **changes: Any) -> nn.Module:
    """A transformer whose every weight is random (diffusers starts some at zero); HunyuanVideo gets `blocks` of each
    kind."""
    import diffusers

    channels = LATENT_CHANNELS[family]
    sizes = {"num_attention_heads": heads, "in_channels": channels, "out_channels": channels}
    if family == "minimax_h3":
        del sizes["out_channels"]
    model = getattr(diffusers, CLASSES[family])(**{**sizes, **own_sizes(family, heads, blocks), **changes})
    randomise(model, seed)
    return model.eval().requires_grad_(False)


def four_blocks(family: str) -> nn.Module:
    """A transformer of four blocks with three heads each; HunyuanVideo has two of each kind."""
    return build(family, heads=3, blocks=2 if family == "hunyuan_video" else 4)


def randomise(model: nn.Module, seed: int) -> None:
    """Fill every parameter: matrices at 1/sqrt(inputs), vectors near their usual value of 1 or 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)


@dataclass
class Call:
    """The arguments of one call of a family's transformer, all keywords, and its token grid."""

    kwargs: dict[str, Any]
    grid: tuple[int, int, int]

    def __call__(self, model: nn.Module) -> torch.Tensor:
        return model(**self.kwargs, return_dict=False)[0]


def call_for(
    family: str, model: nn.Module, latent: tuple[int, int, int] = (3, 4, 6), batch: int = 2, seed: int = 1
) -> Call:
    """Random inputs of `latent` (T, H, W) cells for `model`, as its pipeline would pass them."""
    generator = torch.Generator().manual_seed(seed)
    time, height, width = latent
    x = torch.randn(batch, LATENT_CHANNELS[family], time, height, width, generator=generator)
    text = torch.randn(batch, TEXT_LENGTH, TEXT_WIDTH, generator=generator)
    kwargs: dict[str, Any] = {"encoder_hidden_states": text, "timestep": torch.full((batch,), 400)}
    grid = (time, height // 2, width // 2)
    if family == "cogvideox":
        from det_core.models.families.cogvideox import cogvideox_rotary

        kwargs |= {"hidden_states": x.transpose(1, 2), "image_rotary_emb": cogvideox_rotary(model, latent)}
        grid = (-(-time // (model.config.patch_size_t or 1)), *grid[1:])
    elif family == "hunyuan_video":
        mask = torch.ones(batch, TEXT_LENGTH)
        mask[0, -2:] = 0
        pooled = torch.randn(batch, 8, generator=generator)
        kwargs |= {"hidden_states": x, "encoder_attention_mask": mask, "pooled_projections": pooled}
        kwargs |= {"guidance": torch.full((batch,), 6000.0)}
    elif family == "wan":
        kwargs |= {"hidden_states": x}
    elif family == "hunyuan_video15":
        grid = latent
        kwargs |= {"hidden_states": torch.cat([x, torch.zeros(batch, x.shape[1] + 1, *latent)], 1)}
        kwargs |= {"encoder_hidden_states_2": text.flip(1), "image_embeds": torch.zeros(batch, 1, TEXT_WIDTH)}
        kwargs |= {f"encoder_attention_mask{end}": torch.ones(batch, TEXT_LENGTH) for end in ("", "_2")}
        kwargs["timestep"] = kwargs["timestep"].float()
    elif family == "minimax_h3":
        from det_core.models.families.minimax_h3 import packed

        kwargs = packed(model.config, x, kwargs["timestep"][0], text)
    elif family == "ltx2":
        grid = latent
        kwargs |= {"hidden_states": x.flatten(2).transpose(1, 2), "num_frames": time, "height": height, "width": width}
        kwargs |= {"audio_encoder_hidden_states": text.flip(1), "audio_hidden_states": torch.zeros(batch, 1, 4)}
        kwargs |= {"sigma": kwargs["timestep"], "audio_num_frames": 1, "isolate_modalities": True, "fps": 25.0}
    else:
        grid = latent
        kwargs |= {"hidden_states": x.flatten(2).transpose(1, 2), "num_frames": time, "height": height, "width": width}
        kwargs |= {"encoder_attention_mask": torch.ones(batch, TEXT_LENGTH)}
    return Call(kwargs, grid)


def filled_adapter(model: nn.Module, seed: int = 2, kernel_size: int = 3, mid_dim: int = 8):
    """An adapter for `model` whose kernels are as if trained: moderate `down`, non-zero `up`."""
    from det_core.adapter.motion_adapter import MotionAdapter
    from det_core.models.families import spec_for

    generator = torch.Generator().manual_seed(seed)
    adapter = MotionAdapter.create(spec_for(model), mid_dim, kernel_size, generator=generator)
    for kernel in adapter.blocks.values():
        nn.init.normal_(kernel.down.weight, std=(kernel.dim * kernel_size) ** -0.5, generator=generator)
        nn.init.normal_(kernel.up.weight, std=(mid_dim * kernel_size) ** -0.5, generator=generator)
    return adapter


def conv_reference(kernel: nn.Module, x: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """The definition of a temporal kernel: two convolutions over time at every place, with a GELU between."""
    return temporal_conv_reference(x, kernel.down.weight, kernel.up.weight, grid)

"""Adaptive positions: let a model see a few frames at the times they have in the whole clip.

The paper writes the position of frame i of F_samp as F/2 + F/F_samp (i - F_samp/2), which is i * F/F_samp: plain
scaling of the time axis. Here every frame has any position, of which a scaling is one case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..attach import overridden
from ..dit import call_grid, spec_for, unwrapped


@contextmanager
def frame_positions(transformer: nn.Module, positions: Sequence[float] | None) -> Iterator[None]:
    """Inside the context, latent frame i of each call of a diffusers transformer stands at time `positions[i]`.

    Convention: positions count the latent frames of the whole clip from 0; whole numbers give exactly the rows that the
        model's table for the whole clip has there, 0, 1, 2, ... (or None) leaves the model as it is.
    Supported: the rotary tables of CogVideoX, Wan and HunyuanVideo, and the sine-cosine table of CogVideoX-2B and the
        embedded DiT.
    Raises: ValueError if the model's positions cannot be set, or, at a call, if it has another number of frames.
    """
    transformer = unwrapped(transformer)
    spec = spec_for(transformer)
    patch = spec.patch[0]
    if positions is None or list(positions) == list(range(len(positions))):
        yield
        return
    times = torch.tensor([position / patch for position in positions[::patch]], dtype=torch.float64)
    families = {"wan": _wan, "hunyuan_video": _hunyuan, "cogvideox": _cogvideox, "embedded": _cogvideox}
    if spec.layout != "diffusers" or spec.name not in families:
        raise ValueError(
            f"the time positions of {spec.name} ({spec.layout} layout) cannot be stretched: train on all frames instead"
        )
    forward = transformer.forward

    def forward_checked(*args, **kwargs):
        if (time := call_grid(spec, args, kwargs)[0]) != len(times):
            raise ValueError(f"there are positions for {len(times)} time steps, but the video has {time}")
        return forward(*args, **kwargs)

    with overridden([(transformer, forward_checked)]), overridden(families[spec.name](transformer, times)):
        yield


def _replaced(table: torch.Tensor, rows: torch.Tensor, width: int) -> torch.Tensor:
    """`table` (..., T*H*W, ..., D), time-major, with its first `width` channels replaced by `rows` (T, width)."""
    shape = table.shape
    flat = table.reshape(len(rows), -1, shape[-1])
    time = rows.to(flat)[:, None].expand(-1, flat.shape[1], -1)
    return torch.cat([time, flat[..., width:]], dim=-1).reshape(shape)


def _rotary(width: int, times: torch.Tensor, theta: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    return get_1d_rotary_pos_embed(width, times.to(dtype), theta, use_real=True, freqs_dtype=dtype)


def _wan(transformer: nn.Module, times: torch.Tensor):
    rope, forward = transformer.rope, transformer.rope.forward
    rows = _rotary(rope.t_dim, times, 10000.0, torch.float64)
    return [(rope, lambda x: tuple(_replaced(t, r, rope.t_dim) for t, r in zip(forward(x), rows, strict=True)))]


def _hunyuan(transformer: nn.Module, times: torch.Tensor):
    rope, forward = transformer.rope, transformer.rope.forward
    width = rope.rope_dim[0]
    rows = _rotary(width, times, rope.theta, torch.float32)
    return [(rope, lambda x: tuple(_replaced(t, r, width) for t, r in zip(forward(x), rows, strict=True)))]


def _cogvideox(transformer: nn.Module, times: torch.Tensor):
    config, embed = transformer.config, transformer.patch_embed
    if config.use_rotary_positional_embeddings and embed.use_learned_positional_embeddings:
        raise ValueError("this CogVideoX has learned positions, which cannot be stretched: use a text-to-video model")
    if config.use_rotary_positional_embeddings:
        forward, width = transformer.forward, config.attention_head_dim // 4
        rows = _rotary(width, times, 10000.0, torch.float32)

        def forward_stretched(*args, image_rotary_emb, **kwargs):
            stretched = tuple(_replaced(t, r, width) for t, r in zip(image_rotary_emb, rows, strict=True))
            return forward(*args, image_rotary_emb=stretched, **kwargs)

        return [(transformer, forward_stretched)]
    return [(embed, _with_table(embed, times))]


def _with_table(embed: nn.Module, times: torch.Tensor):
    """The patch embedding's forward with a sine-cosine table of these times instead of its own."""
    from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid

    forward, width = embed.forward, embed.embed_dim // 4
    rows = get_1d_sincos_pos_embed_from_grid(width, times.float() / embed.temporal_interpolation_scale)

    def forward_stretched(text_embeds, image_embeds):
        frames, height, width_px = image_embeds.shape[1], *image_embeds.shape[-2:]
        pixel_frames = (frames - 1) * embed.temporal_compression_ratio + 1
        table = embed._get_positional_embeddings(height, width_px, pixel_frames, device=image_embeds.device)
        text = embed.max_text_seq_length
        table = torch.cat([table[:, :text], _replaced(table[:, text:], rows, width)], dim=1)
        embed.use_positional_embeddings = False
        try:
            joint = forward(text_embeds, image_embeds)
        finally:
            embed.use_positional_embeddings = True
        return joint + table.to(joint.dtype)

    return forward_stretched

"""Place a video's tokens at other positions than 0, 1, 2, ...: a few frames, or a small picture, of a larger whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from . import call_grid, spec_for, unwrapped
from .spec import DiTSpec

Positions = Sequence[float] | None
Values = Callable[[int, torch.Tensor], Sequence[torch.Tensor]]  # (width, positions) -> tables (len(positions), width)
Axes = dict[int, tuple[int, Sequence[torch.Tensor]]]  # axis of (T, H, W) -> first channel, one table a tensor


@contextmanager
def token_positions(
    transformer: nn.Module, times: Positions = None, rows: Positions = None, columns: Positions = None
) -> Iterator[None]:
    """Inside the context, each latent frame, row and column of a call of a diffusers transformer stands at the position
    given for it in the whole clip.

    Convention: positions count latent frames and cells of the whole clip from 0, one for every one of the call; the
        first and the last cell of a token stand for the token. Whole numbers give exactly the rows that the model's
        table of the whole clip has there; None leaves an axis as it is.
    Supported: rotary tables of CogVideoX, Wan and HunyuanVideo; sine-cosine tables of CogVideoX-2B and the embedded DiT
        (whose rows are the last channels). CogVideoX 1.0 stretches rows and columns over its training picture itself.
    Raises: ValueError if the model's positions cannot be set, or, at a call, if it has another size.
    """
    transformer = unwrapped(transformer)
    spec = spec_for(transformer)
    wanted = {axis: p for axis, p in enumerate((times, rows, columns)) if p is not None}
    if not wanted:
        yield
        return
    if spec.layout != "diffusers" or spec.name not in ("wan", "hunyuan_video", "cogvideox", "embedded"):
        raise ValueError(
            f"the token positions of {spec.name} ({spec.layout} layout) cannot be set: train on all frames at full size"
        )
    from ...adapter.attach import overridden

    tokens = {axis: of_tokens(positions, spec.patch[axis]) for axis, positions in wanted.items()}
    grid: list[tuple[int, int, int]] = []
    overrides = _overrides(transformer, spec, tokens, lambda: grid[0])
    inner = dict(overrides).get(transformer, transformer.forward)

    def forward_checked(*args, **kwargs):
        grid[:] = [call_grid(spec, args, kwargs)]
        for axis, positions in tokens.items():
            if grid[0][axis] != len(positions):
                names = ("time steps", "rows", "columns")
                raise ValueError(
                    f"there are positions for {len(positions)} {names[axis]} of tokens, but the video has "
                    f"{grid[0][axis]}"
                )
        return inner(*args, **kwargs)

    kept = [(module, forward) for module, forward in overrides if module is not transformer]
    with overridden([(transformer, forward_checked), *kept]):
        yield


def of_tokens(positions: Sequence[float], patch: int) -> torch.Tensor:
    """Positions of cells -> positions of tokens of `patch` cells: a token stands at the middle of its cells."""
    cells = torch.tensor([float(p) for p in positions], dtype=torch.float64)
    return torch.stack([(group.mean() - (len(group) - 1) / 2) / patch for group in cells.split(patch)])


def _placed(table: torch.Tensor, grid: tuple[int, int, int], axes: Axes, index: int) -> torch.Tensor:
    """`table` (..., T*H*W, ..., D), time-major, with the channels of some axes replaced."""
    placed = table.reshape(*grid, table.shape[-1]).clone()
    for axis, (first, tables) in axes.items():
        values = tables[index]
        shape = [1, 1, 1, values.shape[1]]
        shape[axis] = len(values)
        placed[..., first : first + values.shape[1]] = values.reshape(shape).to(placed)
    return placed.reshape(table.shape)


def _rotary(theta: float, dtype: torch.dtype) -> Values:
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    return lambda width, at: get_1d_rotary_pos_embed(width, at.to(dtype), theta, use_real=True, freqs_dtype=dtype)


def _axes(widths: tuple[int, int, int], values: Values, tokens: dict[int, torch.Tensor]) -> Axes:
    firsts = (0, widths[0], widths[0] + widths[1])
    return {axis: (firsts[axis], values(widths[axis], at)) for axis, at in tokens.items()}


def _overrides(transformer: nn.Module, spec: DiTSpec, tokens: dict[int, torch.Tensor], grid: Callable):
    if spec.name in ("wan", "hunyuan_video"):
        rope, forward = transformer.rope, transformer.rope.forward
        if spec.name == "wan":
            axes = _axes((rope.t_dim, rope.h_dim, rope.w_dim), _rotary(10000.0, torch.float64), tokens)
        else:
            axes = _axes(tuple(rope.rope_dim), _rotary(rope.theta, torch.float32), tokens)
        return [(rope, lambda x: tuple(_placed(t, grid(), axes, i) for i, t in enumerate(forward(x))))]
    config, embed = transformer.config, transformer.patch_embed
    if not config.use_rotary_positional_embeddings:
        return [(embed, _with_table(embed, tokens, grid))]
    if embed.use_learned_positional_embeddings:
        raise ValueError("this CogVideoX has learned positions, which cannot be set: use a text-to-video model")
    if config.patch_size_t is None:
        tokens = {axis: at for axis, at in tokens.items() if axis == 0}
    width, forward = config.attention_head_dim, transformer.forward
    axes = _axes((width // 4, width // 8 * 3, width // 8 * 3), _rotary(10000.0, torch.float32), tokens)

    def forward_placed(*args, image_rotary_emb, **kwargs):
        placed = tuple(_placed(t, grid(), axes, i) for i, t in enumerate(image_rotary_emb))
        return forward(*args, image_rotary_emb=placed, **kwargs)

    return [(transformer, forward_placed)]


def _with_table(embed: nn.Module, tokens: dict[int, torch.Tensor], grid: Callable):
    """The patch embedding's forward with a sine-cosine table of these positions instead of its own."""
    from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid as sincos

    forward, text = embed.forward, embed.max_text_seq_length
    time_width, space_width = embed.embed_dim // 4, 3 * embed.embed_dim // 8
    scales = (embed.temporal_interpolation_scale, embed.spatial_interpolation_scale, embed.spatial_interpolation_scale)
    firsts, widths = (0, time_width + space_width, time_width), (time_width, space_width, space_width)  # rows come last
    axes = {axis: (firsts[axis], [sincos(widths[axis], at.float() / scales[axis])]) for axis, at in tokens.items()}

    def forward_placed(text_embeds, image_embeds):
        time, rows, columns = grid()
        sizes = (rows * embed.patch_size, columns * embed.patch_size, (time - 1) * embed.temporal_compression_ratio + 1)
        table = embed._get_positional_embeddings(*sizes, device=image_embeds.device)
        video = _placed(table[:, text:], grid(), axes, 0)
        embed.use_positional_embeddings = False
        try:
            joint = forward(text_embeds, image_embeds)
        finally:
            embed.use_positional_embeddings = True
        return joint + torch.cat([table[:, :text], video], dim=1).to(joint.dtype)

    return forward_placed

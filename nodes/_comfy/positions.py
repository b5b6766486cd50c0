"""Place a video's tokens at other positions than 0, 1, 2, ... in ComfyUI's own models: a few frames of a longer clip.

Wan takes evenly spaced positions through the core's `rope_options`; uneven ones, and the tables of CogVideoX, of the
embedded DiT and of HunyuanVideo, are replaced for the length of a context. det_core.models.families.positions does the
same for diffusers' models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ...det_core.models.families import DiTSpec
from ...det_core.models.families.placing import of_tokens
from ...det_core.models.overriding import overridden
from .cogvideox import AddSincos, sincos_table

Positions = Sequence[float] | None
Places = dict[int, torch.Tensor]  # axis of (T, H, W) -> position of each token along it, float64
AXES = ("time steps", "rows", "columns")


@contextmanager
def native_positions(
    dit: nn.Module, spec: DiTSpec, times: Positions = None, rows: Positions = None, columns: Positions = None
) -> Iterator[dict]:
    """Inside, tokens of `dit` stand at these positions; gives the `transformer_options` that calls must have for it.

    Convention: as det_core's `token_positions`: positions count latent frames and cells of the whole clip from 0, one
        for every one of the call; None leaves an axis as it is. CogVideoX 1.0 stretches rows and columns itself.
    Raises: ValueError if the model's positions cannot be set, or, at a call, if the video has another size.
    """
    given = {axis: p for axis, p in enumerate((times, rows, columns)) if p is not None}
    places = {axis: of_tokens(positions, spec.patch[axis]) for axis, positions in given.items()}
    if not places:
        yield {}
    elif spec.name == "wan":
        even = all(_is_even(at) for at in places.values())
        uneven = [] if even else [(dit.rope_embedder, _looked_up(dit.rope_embedder.forward, places))]
        with overridden([(dit, _checked(dit.forward, spec, places)), *uneven]):
            yield {"rope_options": _rope_options(places)} if even else {}
    elif spec.name == "hunyuan_video":
        with _replaced(dit, "img_ids", _image_ids(dit.img_ids, spec, places)):
            yield {}
    elif spec.name == "cogvideox" and dit.use_rotary_positional_embeddings:
        if dit.patch_size_t is None:
            places = {axis: at for axis, at in places.items() if axis == 0}
        with _replaced(dit, "_get_rotary_emb", _rotary(dit._get_rotary_emb, dit.attention_head_dim, places)):
            yield {}
    elif spec.name in ("cogvideox", "embedded"):
        with _sincos(dit.patch_embed, places):
            yield {}
    else:
        raise ValueError(
            f"the token positions of {spec.name} cannot be set in ComfyUI: train on all frames at full size"
        )


def _check(grid: Sequence[int], places: Places) -> None:
    for axis, at in places.items():
        if len(at) != grid[axis]:
            raise ValueError(
                f"there are positions for {len(at)} {AXES[axis]} of tokens, but the video has {grid[axis]}"
            )


@contextmanager
def _replaced(module: nn.Module, name: str, method: Callable) -> Iterator[None]:
    """Give one instance another method for the length of the context."""
    own = module.__dict__.get(name)
    setattr(module, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(module, name)
        else:
            setattr(module, name, own)


# ---------------------------------------------------------------------------------------------- Wan
def _is_even(at: torch.Tensor) -> bool:
    return len(at) < 3 or bool((at.diff() - at.diff()[0]).abs().max() < 1e-9)


def _rope_options(places: Places) -> dict[str, float]:
    """The core's scale and shift of each axis, for evenly spaced positions."""
    options = {}
    for axis, at in places.items():
        step = at[1] - at[0] if len(at) > 1 else torch.ones(())
        options |= {f"scale_{'tyx'[axis]}": step.item(), f"shift_{'tyx'[axis]}": at[0].item()}
    return options


def _looked_up(embed: Callable, places: Places) -> Callable:
    """The rotary embedding of token numbers 0, 1, 2, ... (B, tokens, 3) with the place of each number in its stead."""

    def looked_up(ids: torch.Tensor) -> torch.Tensor:
        ids = ids.clone()
        for axis, at in places.items():
            ids[..., axis] = at.to(ids)[ids[..., axis].round().long()]
        return embed(ids)

    return looked_up


def _checked(forward: Callable, spec: DiTSpec, places: Places) -> Callable:
    def checked(x, *args, **kwargs):
        _check(spec.grid(x.shape), places)
        return forward(x, *args, **kwargs)

    return checked


# ---------------------------------------------------------------------------------------------- HunyuanVideo
def _image_ids(own: Callable, spec: DiTSpec, places: Places) -> Callable:
    def image_ids(x: torch.Tensor) -> torch.Tensor:
        grid = spec.grid(x.shape)
        _check(grid, places)
        ids = own(x).unflatten(1, grid)  # (B, T, H, W, 3)
        for axis, at in places.items():
            shape = [1, 1, 1]
            shape[axis] = len(at)
            ids[..., axis] = at.reshape(shape).to(ids)
        return ids.flatten(1, 3)

    return image_ids


# ---------------------------------------------------------------------------------------------- CogVideoX
def _angles(width: int, at: torch.Tensor) -> torch.Tensor:
    """(len(at), width / 2) of base 10000, float64."""
    return torch.outer(at, 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64, device=at.device) / width))


def _rotary(own: Callable, head_width: int, places: Places) -> Callable:
    """A CogVideoX's `_get_rotary_emb` with some axes at other positions: a quarter of the channels for time."""
    widths = (head_width // 4, head_width // 8 * 3, head_width // 8 * 3)

    def rotary(h: int, w: int, t: int, device=None) -> tuple[torch.Tensor, torch.Tensor]:
        _check((t, h, w), places)
        tables = own(h, w, t, device=device)
        for axis, at in places.items():
            angles = _angles(widths[axis], at.to(tables[0].device)).repeat_interleave(2, dim=1)
            first = sum(widths[:axis])
            tables = tuple(
                _with_axis(table, (t, h, w), axis, first, values)
                for table, values in zip(tables, (angles.cos(), angles.sin()), strict=True)
            )
        return tables

    return rotary


def _with_axis(
    table: torch.Tensor, grid: tuple[int, int, int], axis: int, first: int, values: torch.Tensor
) -> torch.Tensor:
    """`table` (T*H*W, D) with its channels from `first` on replaced by `values` (tokens along the axis, channels)."""
    placed = table.unflatten(0, grid).clone()
    shape = [1, 1, 1, values.shape[1]]
    shape[axis] = len(values)
    placed[..., first : first + values.shape[1]] = values.reshape(shape).to(placed)
    return placed.flatten(0, 2)


@contextmanager
def _sincos(embed: nn.Module, places: Places) -> Iterator[None]:
    """The patch embedding with a sine-cosine table of these positions: in place of the hook that adds its own."""
    hooks = {key: hook for key, hook in embed._forward_hooks.items() if isinstance(hook, AddSincos)}
    if not hooks:
        raise ValueError("this CogVideoX has learned positions, which cannot be set: use a text-to-video model")
    forward, dim, scale = embed.forward, embed.dim, embed.spatial_interpolation_scale
    spatial = dim // 4 * 3
    widths = (dim - spatial, spatial // 2, spatial // 2)
    firsts = (0, dim - spatial // 2, dim - spatial)  # time, then columns, then rows

    def placed(text: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        grid = (latents.shape[1], latents.shape[3] // embed.patch_size, latents.shape[4] // embed.patch_size)
        _check(grid, places)
        tokens = forward(text, latents)
        table = sincos_table(dim, grid, scale, tokens.device)
        for axis, at in places.items():
            angles = _angles(widths[axis], at.to(table.device) / (scale if axis else 1.0))
            table = _with_axis(table, grid, axis, firsts[axis], torch.cat([angles.sin(), angles.cos()], dim=-1))
        length = text.shape[1]
        return torch.cat([tokens[:, :length], tokens[:, length:] + table.to(tokens.dtype)], dim=1)

    for key in hooks:
        del embed._forward_hooks[key]
    try:
        with overridden([(embed, placed)]):
            yield
    finally:
        embed._forward_hooks.update(hooks)

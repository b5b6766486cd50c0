"""The position tables of CogVideoX in its native (ComfyUI) layout, and how they are placed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .placing import Placing

BASE_HEIGHT, BASE_WIDTH = 60, 90  # latent size that CogVideoX 1.0 was trained at (480 x 720 pixels)


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


def angles(width: int, at: torch.Tensor) -> torch.Tensor:
    """(len(at), width / 2) of base 10000, float64."""
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=at.device) / width
    return torch.outer(at.double(), 10000.0**-exponent)


def over_grid(time: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> list[torch.Tensor]:
    """Tables (tokens along the axis, width) of the three axes, each repeated over the grid of all."""
    shape = (len(time), len(rows), len(columns), -1)
    return [time[:, None, None].expand(shape), rows[None, :, None].expand(shape), columns[None, None].expand(shape)]


# ------------------------------------------------------------------------------------------- rotary
def rotary_widths(head_width: int) -> tuple[int, int, int]:
    """Channels of a head that turn with time, rows and columns."""
    return head_width // 4, head_width // 8 * 3, head_width // 8 * 3


class CropRotary:
    """Rotary table of CogVideoX 1.0: the grid is resized into the 30 x 45 base grid and its positions are read there.

    Called as the model's own method: (h, w, t, device) -> (cos, sin), each (t*h*w, head width), pairs interleaved.
    """

    def __init__(self, head_width: int, patch: int):
        self.head_width = head_width
        self.base = (BASE_HEIGHT // patch, BASE_WIDTH // patch)

    def __call__(self, h: int, w: int, t: int, device=None) -> tuple[torch.Tensor, torch.Tensor]:
        (top, left), (bottom, right) = resize_crop_region((h, w), self.base)
        positions = (
            torch.arange(t, dtype=torch.float32, device=device),
            torch.linspace(top, bottom * (h - 1) / h, h, dtype=torch.float32, device=device),
            torch.linspace(left, right * (w - 1) / w, w, dtype=torch.float32, device=device),
        )
        widths = rotary_widths(self.head_width)
        turned = [angles(*axis).repeat_interleave(2, dim=1) for axis in zip(widths, positions, strict=True)]
        table = torch.cat(over_grid(*turned), dim=-1).reshape(t * h * w, self.head_width)
        return table.cos().float(), table.sin().float()


class PlacedRotary:
    """A native model's `_get_rotary_emb` with some axes placed."""

    def __init__(self, own: Callable, firsts: Sequence[int], widths: Sequence[int], placing: Placing):
        self.own, self.firsts, self.widths, self.placing = own, firsts, widths, placing

    def __call__(self, h: int, w: int, t: int, device=None) -> tuple[torch.Tensor, torch.Tensor]:
        self.placing.meet((t, h, w))
        tables = self.own(h, w, t, device=device)
        axes = self.placing.axes(self.firsts, self.widths, self._tables)
        return tuple(self.placing.put(table, axes, index) for index, table in enumerate(tables))

    @staticmethod
    def _tables(width: int, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turned = angles(width, at).repeat_interleave(2, dim=1)
        return turned.cos(), turned.sin()


# ------------------------------------------------------------------------------------------- sine and cosine
def waves(width: int, at: torch.Tensor) -> torch.Tensor:
    turned = angles(width, at)
    return torch.cat([turned.sin(), turned.cos()], dim=-1)


def sincos_widths(dim: int) -> tuple[int, int, int]:
    """Channels of time, rows and columns; in a table they come in the order time, columns, rows."""
    spatial = dim // 4 * 3
    return dim - spatial, spatial // 2, spatial // 2


def sincos_table(dim: int, grid: tuple[int, int, int], spatial_scale: float, device=None) -> torch.Tensor:
    """Absolute positions of the 2B class, (T*H*W, dim) float32: a quarter of the width for time, the rest for space."""
    (t, h, w), widths = grid, sincos_widths(dim)
    time, rows, columns = over_grid(
        waves(widths[0], torch.arange(t, device=device)),
        waves(widths[1], torch.arange(h, device=device) / spatial_scale),
        waves(widths[2], torch.arange(w, device=device) / spatial_scale),
    )
    return torch.cat([time, columns, rows], dim=-1).reshape(t * h * w, dim).float()


class AddSincos:
    """Forward hook of the patch embedding: adds the table to the video tokens, for whatever size the call has.

    placing: where the tokens stand; None leaves them at 0, 1, 2, ...
    """

    def __init__(self, placing: Placing | None = None):
        self.placing = placing

    def __call__(self, module, args, output: torch.Tensor) -> torch.Tensor:
        text, latents = args  # (B, L, width), (B, T, C, H, W)
        frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
        grid = (frames, height // module.patch_size, width // module.patch_size)
        table = sincos_table(module.dim, grid, module.spatial_interpolation_scale, output.device)
        if self.placing is not None:
            self.placing.meet(grid)
            table = self.placing.put(table, self._axes(module))
        length = text.shape[1]
        return torch.cat([output[:, :length], output[:, length:] + table.to(output.dtype)], dim=1)

    def _axes(self, module) -> dict[int, tuple[int, list[torch.Tensor]]]:
        widths, scale = sincos_widths(module.dim), module.spatial_interpolation_scale
        firsts = (0, widths[0] + widths[2], widths[0])
        return {
            axis: (firsts[axis], [waves(widths[axis], at / (scale if axis else 1.0))])
            for axis, at in self.placing.tokens.items()
        }


@contextmanager
def placed_sincos(embed: nn.Module, placing: Placing) -> Iterator[None]:
    """Inside, the hook that adds the patch embedding's table adds a placed one.

    Raises: ValueError if there is none: the positions are learned.
    """
    hooks = {key: hook for key, hook in embed._forward_hooks.items() if isinstance(hook, AddSincos)}
    if not hooks:
        raise ValueError("this CogVideoX has learned positions, which cannot be set: use a text-to-video model")
    embed._forward_hooks.update({key: AddSincos(placing) for key in hooks})
    try:
        yield
    finally:
        embed._forward_hooks.update(hooks)

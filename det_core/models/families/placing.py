"""The tables of positions that a model's attention sees, with some of their axes replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .spec import DiTSpec

AXES = ("time steps", "rows", "columns")
Table = Callable[[int, torch.Tensor], Sequence[torch.Tensor]]  # (width, positions) -> tables (len(positions), width)


class Placing:
    """Where the tokens of a call stand, and the grid of the call in progress.

    Convention: axes are 0, 1, 2 of (T, H, W); positions are those of tokens, in tokens of the whole clip, float64.
    """

    def __init__(self, spec: DiTSpec, wanted: dict[int, Sequence[float]]):
        """wanted: axis -> position of each latent frame, row or column of cells."""
        self.spec = spec
        self.tokens = {axis: of_tokens(positions, spec.patch[axis]) for axis, positions in wanted.items()}
        self.grid: tuple[int, int, int] | None = None

    def checked(self, inner: Callable, *args, **kwargs):
        """The transformer's forward `inner`, once its call is known to have the size. Raises: ValueError if not."""
        self.meet(self.spec.family.call_grid(self.spec, args, kwargs))
        return inner(*args, **kwargs)

    def sized(self, inner: Callable, x: torch.Tensor, *args, **kwargs):
        """The same for a native model, which takes latents (B, C, T, H, W) first."""
        self.meet(self.spec.grid(x.shape))
        return inner(x, *args, **kwargs)

    def meet(self, grid: tuple[int, int, int]) -> None:
        """Take this token grid for that of the call in progress. Raises: ValueError if it has another size."""
        self.grid = tuple(grid)
        for axis, positions in self.tokens.items():
            if grid[axis] != len(positions):
                raise ValueError(
                    f"there are positions for {len(positions)} {AXES[axis]} of tokens, but the video has {grid[axis]}"
                )

    def axes(self, firsts: Sequence[int], widths: Sequence[int], table: Table) -> dict[int, tuple[int, Sequence]]:
        """axis -> (first channel, tables): the new channels of each axis that is placed; `firsts` may leave the last
        axes out, which then stay as they are."""
        placed = ((axis, at) for axis, at in self.tokens.items() if axis < len(firsts))
        return {axis: (firsts[axis], table(widths[axis], at)) for axis, at in placed}

    def put(self, table: torch.Tensor, axes: dict[int, tuple[int, Sequence]], index: int = 0) -> torch.Tensor:
        """`table` (..., T*H*W, ..., D), time-major, with the channels of `axes` replaced by their `index`th table."""
        placed = table.reshape(*self.grid, table.shape[-1]).clone()
        for axis, (first, tables) in axes.items():
            values = tables[index]
            shape = [1, 1, 1, values.shape[1]]
            shape[axis] = len(values)
            placed[..., first : first + values.shape[1]] = values.reshape(shape).to(placed)
        return placed.reshape(table.shape)


def of_tokens(positions: Sequence[float], patch: int) -> torch.Tensor:
    """Positions of cells -> positions of tokens of `patch` cells: a token stands at the middle of its cells."""
    cells = torch.tensor([float(p) for p in positions], dtype=torch.float64)
    return torch.stack([(group.mean() - (len(group) - 1) / 2) / patch for group in cells.split(patch)])


class RotaryTable:
    """diffusers' rotary table of one axis: (width, positions) -> (cos, sin)."""

    def __init__(self, theta: float, dtype: torch.dtype):
        self.theta, self.dtype = theta, dtype

    def __call__(self, width: int, at: torch.Tensor) -> Sequence[torch.Tensor]:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        return get_1d_rotary_pos_embed(width, at.to(self.dtype), self.theta, use_real=True, freqs_dtype=self.dtype)


def placed_rotary(forward: Callable, placing: Placing, axes: dict, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A rotary module's forward with the axes placed; cos and sin are both tables of all tokens."""
    return tuple(placing.put(table, axes, index) for index, table in enumerate(forward(x)))


def starts(widths: Sequence[int]) -> list[int]:
    """First channel of each of some consecutive ranges of channels."""
    return [sum(widths[:i]) for i in range(len(widths))]

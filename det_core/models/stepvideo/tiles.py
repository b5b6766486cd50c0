"""Code a picture or video in overlapping pieces and blend what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch


def tiled(
    code: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    tile: tuple[int, int],
    overlap: int,
    *,
    step: int,
    scale: float,
) -> torch.Tensor:
    """`code` (..., H, W) -> (..., scale H, scale W) over pieces of x, blended linearly where two meet.

    tile, overlap: (height, width) of a piece and what neighbours share, in the units of x; rounded down to multiples of
        `step`, and to at least one.
    """
    height, width = x.shape[-2:]
    total = weights = None
    for top, bottom in _pieces(height, tile[0], overlap, step):
        for left, right in _pieces(width, tile[1], overlap, step):
            coded = code(x[..., top:bottom, left:right])
            if total is None:
                total = coded.new_zeros(*coded.shape[:-2], round(height * scale), round(width * scale))
                weights = coded.new_zeros(total.shape[-2:], dtype=torch.float32)
            shared = round(max(step, overlap // step * step) * scale)
            down = _ramp(coded.shape[-2], shared, top > 0, bottom < height)
            across = _ramp(coded.shape[-1], shared, left > 0, right < width)
            weight = (down[:, None] * across).to(weights.device)
            rows = slice(round(top * scale), round(bottom * scale))
            columns = slice(round(left * scale), round(right * scale))
            total[..., rows, columns] += coded * weight.to(coded.dtype)
            weights[rows, columns] += weight
    return total / weights.to(total.dtype)


def _pieces(size: int, tile: int, overlap: int, step: int) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces that cover `size`; the last one ends there and is as long as the others."""
    tile = max(step, tile // step * step)
    if tile >= size:
        yield 0, size
        return
    stride = max(step, tile - max(step, overlap // step * step))
    for start in range(0, size - tile, stride):
        yield start, start + tile
    yield size - tile, size


def _ramp(length: int, shared: int, before: bool, after: bool) -> torch.Tensor:
    """Weights (length,) of a piece: rising over what it shares with the piece before, falling towards the next."""
    rising = (torch.arange(length, dtype=torch.float32) + 1) / (min(shared, length) + 1)
    weight = torch.ones(length)
    if before:
        weight = torch.minimum(weight, rising)
    if after:
        weight = torch.minimum(weight, rising.flip(0))
    return weight

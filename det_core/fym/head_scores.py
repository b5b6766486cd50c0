"""Measure attention heads from a few query rows: how much of a row falls into its own frame, how much on its own place
in other frames.

The paper compares whole attention maps with two band-shaped templates of equal area. Rows are enough for that: two
templates of equal area have equal norms, so the ratio of the two cosines is the ratio of the two masses, and masses are
sums over rows. No (tokens x tokens) map is ever made.
"""

from __future__ import annotations

import math

import torch

from .heads import HeadMap

CHUNK_BYTES = 256 * 2**20  # of attention rows at a time
GOLDEN = (5**0.5 - 1) / 2  # steps of this share of an interval, wrapped around, cover it evenly


class HeadScores:
    """Running sums over blocks and noise draws, from which a `HeadMap` is made.

    Convention: video tokens are time-major over `grid` (T, H, W). The spatial template is a row's own frame, the
        temporal one a square of places around its own in every other frame, about as large in all. A row's own token
        belongs to neither (the released code counts it for both). A mass is divided by what uniform attention
        would put there, so that both scores of uniform attention are exactly 1, at the borders too.
    """

    def __init__(self, num_blocks: int, heads: int, grid: tuple[int, int, int], rows: int, generator: torch.Generator):
        """rows: query rows a block, at most; one at random from each of as many equal stretches of the video, the
        same for all blocks and heads.

        Raises: ValueError if the video has a single frame or a single place.
        """
        time, height, width = grid
        places = height * width
        if time < 2 or places < 2:
            raise ValueError(
                f"heads can only be told apart on a video: {time} x {height} x {width} tokens (T, H, W) are too few"
            )
        self._jitter = torch.rand(min(rows, time * places), generator=generator, dtype=torch.float64)
        self.grid, self.reach = grid, max(0, round((math.sqrt(places / (time - 1)) - 1) / 2))
        self.mass = torch.zeros(2, num_blocks, heads, dtype=torch.float64)
        self.uniform = torch.zeros(2, num_blocks, 1, dtype=torch.float64)
        self.draw_rows()

    def draw_rows(self) -> None:
        """Choose other rows, for the next forward: over several forwards they spread evenly over each stretch."""
        count = len(self._jitter)
        place = (torch.arange(count, dtype=torch.float64) + self._jitter) * (math.prod(self.grid) / count)
        self.rows = place.long().clamp(max=math.prod(self.grid) - 1)
        self._jitter = (self._jitter + GOLDEN) % 1

    def observe(self, block: int, q: torch.Tensor, k: torch.Tensor) -> None:
        """Add one block's attention: q and k of the video tokens after norm and positions, (heads, T*H*W, head width).

        Text keys are left out before the softmax, which is the same as dividing each row by its mass on the video.
        """
        tokens, device = math.prod(self.grid), q.device
        if q.shape[:2] != (self.mass.shape[2], tokens) or k.shape[:2] != q.shape[:2]:
            raise ValueError(f"block {block} has q {tuple(q.shape)}, not {self.mass.shape[2]} heads of {tokens} tokens")
        rows = self.rows.to(device)
        templates = self._templates(rows, device)
        step = max(1, CHUNK_BYTES // (4 * len(rows) * tokens))
        for first in range(0, len(q), step):
            query, key = q[first : first + step, rows].float(), k[first : first + step].float()
            weights = (query * query.shape[-1] ** -0.5 @ key.transpose(1, 2)).softmax(-1)
            for index, template in enumerate(templates):
                self.mass[index, block, first : first + step] += (weights * template).sum((1, 2)).cpu().double()
        for index, template in enumerate(templates):
            self.uniform[index, block] += template.sum().cpu().double() / tokens

    def _templates(self, rows: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, tokens) bool, spatial and temporal."""
        time, height, width = self.grid
        tokens = torch.arange(time * height * width, device=device)

        def coordinates(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return index // (height * width), index // width % height, index % width

        (t, y, x), (row_t, row_y, row_x) = coordinates(tokens), (c[:, None] for c in coordinates(rows))
        same_frame = t == row_t
        near = ((y - row_y).abs() <= self.reach) & ((x - row_x).abs() <= self.reach)
        return same_frame & (tokens != rows[:, None]), near & ~same_frame

    def map(self, base_model: str, rule: str = "balanced") -> HeadMap:
        """The scores so far. Raises ValueError naming the first block that was never observed."""
        if missing := (self.uniform[0, :, 0] == 0).nonzero().flatten().tolist():
            raise ValueError(
                f"the attention of block {missing[0]} of this {base_model} model cannot be read head by head"
            )
        spatial, temporal = (self.mass / self.uniform).float()
        return HeadMap(base_model, spatial, temporal, rule)

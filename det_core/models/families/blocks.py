"""Which blocks of a DiT keep their kernel when an adapter is used."""

from __future__ import annotations

import math
from collections.abc import Iterable

DROP_FRACTION = 0.65  # of the blocks, from the last one back, when sampling (DeT, section 3.3)
LONGEST = 4000  # characters of a list of blocks


def kept_blocks(num_blocks: int, drop_fraction: float = DROP_FRACTION) -> list[int]:
    """The first blocks of a DiT: those left when the last `drop_fraction` of them is dropped.

    Early blocks carry the motion, late ones the appearance of the source (DeT, section 3.3); 42 blocks keep 0..14.
    The number of kept blocks is rounded up. Raises ValueError on a fraction outside [0, 1].
    """
    if not 0.0 <= drop_fraction <= 1.0:
        raise ValueError(f"the fraction of blocks to drop lies between 0 and 1, got {drop_fraction:g}")
    share = num_blocks * (1.0 - drop_fraction)
    return list(range(math.ceil(share - 1e-6)))  # 60 * (1 - 2/3) is a hair above 20


def parse_blocks(text: str, num_blocks: int) -> list[int]:
    """Read a list of blocks as people write it: "0-14, 20" -> [0, ..., 14, 20], sorted, each once. "" is no block.

    Raises ValueError that names the part which is not a block, a range, or is not in a model of `num_blocks` blocks.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a list of blocks has at most {LONGEST} characters, this one has {len(text)}")
    chosen: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f'cannot read "{part}" as blocks: write numbers and ranges such as "0-14, 20"')
        start, stop = int(first), int(last if dash else first)
        if start > stop:
            raise ValueError(f'the range "{part}" runs backwards: write "{stop}-{start}"')
        if stop >= num_blocks:
            raise ValueError(f'"{part}" asks for block {stop}, but this model has blocks 0 to {num_blocks - 1}')
        chosen.update(range(start, stop + 1))
    return sorted(chosen)


def format_blocks(blocks: Iterable[int]) -> str:
    """The shortest text that `parse_blocks` reads back: [0, 1, 2, 5] -> "0-2, 5"."""
    runs: list[list[int]] = []
    for block in sorted(set(blocks)):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)

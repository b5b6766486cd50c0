"""The operations of `shift_torch` as Triton kernels: each reads every slice once and writes once.

Same convention, same names. Sums, GELU and its slope are float32 in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

# Numbers that one program of 4 warps holds: with twice as many, the slope in float32 spills registers on NVIDIA.
PER_PROGRAM = 4096


@triton.jit
def _add(
    wide,  # (B, N, steps * m)
    before,  # (B, N, m), with GELU: gets the sum
    out,  # (B, N, m)
    count,
    width,
    distance,  # tokens of the first step; steps are `rows` apart
    rows,
    STEPS: tl.constexpr,
    GELU: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel = tl.arange(0, CHANNELS)
    batch = tl.program_id(1).to(tl.int64) * count
    there = channel[None, :] < width
    total = tl.zeros((TOKENS, CHANNELS), dtype=tl.float32)
    for step in tl.static_range(STEPS):
        neighbour = token + distance + step * rows
        inside = (token < count) & (neighbour >= 0) & (neighbour < count)
        at = (batch + neighbour)[:, None] * (STEPS * width) + step * width + channel[None, :]
        total += tl.load(wide + at, mask=inside[:, None] & there, other=0.0).to(tl.float32)
    at = (batch + token)[:, None] * width + channel[None, :]
    mask = (token < count)[:, None] & there
    if GELU:
        tl.store(before + at, total, mask=mask)
        total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
    tl.store(out + at, total, mask=mask)


@triton.jit
def _gather(
    narrow,  # (B, N, m)
    before,  # (B, N, m), with SLOPE: read
    wide,  # (B, N, steps * m)
    count,
    width,
    distance,
    rows,
    STEPS: tl.constexpr,
    SLOPE: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Each source token is read, and its slope computed, once; it goes to the tokens that have it as a neighbour. Where
    a step leaves the video, the place at the other end that no source would reach gets its zero."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel = tl.arange(0, CHANNELS)
    batch = tl.program_id(1).to(tl.int64) * count
    source = (batch + token)[:, None] * width + channel[None, :]
    mask = (token < count)[:, None] & (channel < width)[None, :]
    value = tl.load(narrow + source, mask=mask, other=0.0)
    if SLOPE:
        x = tl.load(before + source, mask=mask, other=0.0).to(tl.float32)
        bell = 0.3989422804014327 * tl.exp(-0.5 * x * x)
        value = value.to(tl.float32) * (0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * bell)
    for step in tl.static_range(STEPS):
        target = token - distance - step * rows
        inside = (target >= 0) & (target < count)
        target = tl.where(target < 0, target + count, tl.where(target < count, target, target - count))
        at = (batch + target)[:, None] * (STEPS * width) + step * width + channel[None, :]
        tl.store(wide + at, tl.where(inside[:, None], value, 0.0), mask=mask)


def gather_steps(narrow: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    return _launch_gather(narrow.contiguous(), None, rows, steps)


def gather_steps_slope(grad: torch.Tensor, before: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    return _launch_gather(grad.contiguous(), before.contiguous(), rows, steps)


def add_steps_gelu(wide: torch.Tensor, rows: int, steps: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    before = _narrow_like(wide, steps)
    return before, _launch_add(wide.contiguous(), before, rows, steps)


def add_steps(wide: torch.Tensor, rows: int, steps: Sequence[int]) -> torch.Tensor:
    return _launch_add(wide.contiguous(), None, rows, steps)


def _launch_gather(narrow, before, rows: int, steps: Sequence[int]) -> torch.Tensor:
    batch, count, width = narrow.shape
    wide = narrow.new_empty(batch, count, len(steps) * width)
    with torch.cuda.device_of(narrow):  # Triton launches on the current device, whatever its tensors' is
        _gather[_programs(count, batch, width)](
            narrow, narrow if before is None else before, wide, count, width, *_distances(rows, steps),
            STEPS=len(steps), SLOPE=before is not None, **_blocks(width),
        )  # fmt: skip
    return wide


def _launch_add(wide, before, rows: int, steps: Sequence[int]) -> torch.Tensor:
    out = _narrow_like(wide, steps)
    batch, count, width = out.shape
    with torch.cuda.device_of(wide):
        _add[_programs(count, batch, width)](
            wide, out if before is None else before, out, count, width, *_distances(rows, steps),
            STEPS=len(steps), GELU=before is not None, **_blocks(width),
        )  # fmt: skip
    return out


def _narrow_like(wide: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
    return wide.new_empty(*wide.shape[:2], wide.shape[2] // len(steps))


def _programs(count: int, batch: int, width: int) -> tuple[int, int]:
    return (triton.cdiv(count, _blocks(width)["TOKENS"]), batch)


def _distances(rows: int, steps: Sequence[int]) -> tuple[int, int]:
    """Tokens to the neighbour of the first step, and from one step to the next."""
    return steps[0] * rows, (steps[1] - steps[0]) * rows if len(steps) > 1 else 0


def _blocks(width: int) -> dict[str, int]:
    """How many tokens and channels one program takes."""
    channels = triton.next_power_of_2(width)
    return {"TOKENS": max(1, PER_PROGRAM // channels), "CHANNELS": channels}

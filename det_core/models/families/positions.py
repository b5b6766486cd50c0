"""Place a video's tokens at other positions than 0, 1, 2, ...: a few frames, or a small picture, of a larger whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn

from ..overriding import overridden
from . import DiTSpec, spec_for, unwrapped
from .placing import Placing

Positions = Sequence[float] | None


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
    placing = _placing(spec, times, rows, columns)
    if placing is None:
        yield
        return
    if spec.layout != "diffusers":
        raise ValueError(f"{type(transformer).__name__} is no diffusers transformer: use `native_positions`")
    overrides = dict(spec.family.place(transformer, spec, placing))
    inner = overrides.pop(transformer, transformer.forward)
    with overridden([(transformer, partial(placing.checked, inner)), *overrides.items()]):
        yield


@contextmanager
def native_positions(
    dit: nn.Module, spec: DiTSpec, times: Positions = None, rows: Positions = None, columns: Positions = None
) -> Iterator[dict]:
    """`token_positions` for a native (ComfyUI) model; gives the `transformer_options` that its calls must have."""
    placing = _placing(spec, times, rows, columns)
    if placing is None:
        yield {}
        return
    with spec.family.place_native(dit, spec, placing) as options:
        yield options


def _placing(spec: DiTSpec, *positions: Positions) -> Placing | None:
    wanted = {axis: at for axis, at in enumerate(positions) if at is not None}
    return Placing(spec, wanted) if wanted else None

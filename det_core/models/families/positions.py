"""Place a video's tokens at other positions than 0, 1, 2, ...: a few frames, or a small picture, of a larger whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn

from ..overriding import overridden
from . import spec_for, unwrapped
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
    wanted = {axis: p for axis, p in enumerate((times, rows, columns)) if p is not None}
    if not wanted:
        yield
        return
    placing = Placing(spec, wanted)
    overrides = dict(spec.family.place(transformer, spec, placing))
    inner = overrides.pop(transformer, transformer.forward)
    with overridden([(transformer, partial(placing.checked, inner)), *overrides.items()]):
        yield

"""Whether a loaded model passes its tokens through its taps as its family's description says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..models.families import DiTSpec, Tap
from ..models.families.spec import video_slice
from ..models.overriding import overridden
from .temporal_kernel import Grid


class TapWatch:
    """Reads along in one call of a model: which taps are passed, in which order, and what passes them.

    A model whose code has changed beneath a description would otherwise be adapted at the wrong place, or not at all.
    """

    def __init__(self, spec: DiTSpec, grid: Grid, who: str):
        """grid: of the call's video tokens, (T, H, W). who: the model, in messages."""
        self.spec, self.grid, self.who = spec, grid, who
        self.passed: list[int] = []

    def modules(self, model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
        """The modules of every tap, (input, output). Raises: ValueError if one is missing."""
        return [tuple(self._module(model, path) for path in (tap.input, tap.output)) for tap in self.spec.taps]

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Inside, one call of `model` is read along. Raises: ValueError where something else passes than is said."""
        pairs = []
        for index, (tap, (source, target)) in enumerate(zip(self.spec.taps, self.modules(model), strict=True)):
            if source is target:
                pairs.append((source, partial(self._both, source.forward, index, tap)))
            else:
                pairs.append((source, partial(self._enter, source.forward, index, tap)))
                pairs.append((target, partial(self._leave, target.forward, tap)))
        with overridden(pairs):
            yield

    def finish(self, whole: bool = True) -> None:
        """After the call. whole: every block has to have run. Raises: ValueError if taps were left out or mixed up."""
        count, rising = self.spec.num_blocks, sorted(set(self.passed)) == self.passed
        if rising and (not whole or len(self.passed) == count):
            return
        left_out = [index for index in range(count) if index not in self.passed]
        tap = self.spec.taps[left_out[0] if left_out else self._misplaced()]
        raise self._fault(tap.input, "is never called" if left_out else "is called twice or out of order")

    def _misplaced(self) -> int:
        """The first block that runs where another one should."""
        return next(block for place, block in enumerate(self.passed) if block != place)

    def _both(self, forward: Callable, index: int, tap: Tap, *args, **kwargs):
        result = self._enter(forward, index, tap, *args, **kwargs)
        self._check(tap, tap.output, result, self.spec.dim)
        return result

    def _enter(self, forward: Callable, index: int, tap: Tap, *args, **kwargs):
        self.passed.append(index)
        self._check(tap, tap.input, args[0] if args else kwargs.get("hidden_states"), self.spec.dim)
        return forward(*args, **kwargs)

    def _leave(self, forward: Callable, tap: Tap, x: torch.Tensor, *args, **kwargs):
        result = forward(x, *args, **kwargs)
        self._check(tap, tap.output, x if tap.where == "input" else result, tap.channels or self.spec.dim)
        return result

    def _check(self, tap: Tap, path: str, tokens: Any, channels: int) -> None:
        tokens = tokens[0] if isinstance(tokens, tuple) and tokens else tokens
        if not isinstance(tokens, torch.Tensor) or tokens.ndim not in (2, 3):
            shape = tuple(tokens.shape) if isinstance(tokens, torch.Tensor) else type(tokens).__name__
            raise self._fault(path, f"passes {shape}, and no tokens")
        fused = tap.where == "input" and path == tap.output  # attention and MLP side by side
        if tokens.shape[-1] != channels and not (fused and tokens.shape[-1] > channels):
            raise self._fault(path, f"passes tokens of {tokens.shape[-1]} channels, not {channels}")
        video_slice(tap.tokens, tokens.shape[-2], self.grid, path)

    def _module(self, model: nn.Module, path: str) -> nn.Module:
        try:
            return model.get_submodule(path)
        except AttributeError:
            raise self._fault(path, "is missing") from None

    def _fault(self, path: str, what: str) -> ValueError:
        return ValueError(
            f"{self.who} has other code than this pack knows: its module {path} {what}. Nothing was done: update the "
            "pack, or use the version of the program that it was made for"
        )

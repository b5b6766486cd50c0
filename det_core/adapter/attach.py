"""Put motion adapters on a DiT for the length of a `with` block.

The forward of the tap modules is overridden on the instances and restored on the way out, so the base model is
bit-identical afterwards, quantised or offloaded weights are never touched, and several adapters nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..models.families import DiTSpec, Tap, call_grid, spec_for, unwrapped
from ..models.families.spec import video_slice
from ..models.overriding import Forward, overridden
from .kernel import Grid, Kernel

if TYPE_CHECKING:
    from .beside_attention import BesideAttention


@contextmanager
def attach(
    model: nn.Module, adapter: BesideAttention, *, keep: Iterable[int] | None = None, strength: float = 1.0
) -> Iterator[nn.Module]:
    """Apply `adapter` to a diffusers transformer inside the `with` block; the token grid is read from each call.

    Args:
        keep:     blocks whose kernels act; None means all of the adapter's. `adapter.keep` is what is advised for
                  sampling, all of them is right for training.
        strength: factor on what the kernels add; 0 leaves the model exactly as it is.
    Raises:  ValueError if the adapter was made for another base model, if a block to keep does not exist, or, at a
             call, if the model's video tokens are not the grid's T*H*W.
    Note: with gradient checkpointing, run the backward of a call inside the `with` block and before a call of another
        size: the blocks are computed anew with the grid of the latest call.
    """
    model = unwrapped(model)
    spec = spec_for(model)
    kernels = adapter.kernels_for(spec, keep)
    calls = Calls(model, spec)
    with overridden([(model, calls.forward)] if kernels and strength else []):
        with tapped(model, spec, kernels, calls.latest_grid, strength):
            yield model


@contextmanager
def tapped(
    model: nn.Module,
    spec: DiTSpec,
    kernels: Mapping[int, Kernel],
    grid: Callable[[], Grid],
    strength: float = 1.0,
) -> Iterator[nn.Module]:
    """The lower half of `attach`, for any layout: out(video tokens) += strength * kernel(attn_in(video tokens)).

    Args:
        kernels: block index -> its kernel.
        grid:    called at every tap; returns (T, H, W) of the call in progress.
    """
    model = unwrapped(model)
    kernels = kernels if strength else {}
    taps = [Tapped(model, spec.taps[index], kernel, grid, strength) for index, kernel in kernels.items()]
    with overridden([pair for tap in taps for pair in tap.overrides()]):
        yield model


class Calls:
    """Stands in for a diffusers transformer's forward and remembers the token grid of the latest call."""

    def __init__(self, model: nn.Module, spec: DiTSpec):
        self.inner, self.spec = model.forward, spec
        self.grid: Grid | None = None

    def forward(self, *args, **kwargs):
        self.grid = call_grid(self.spec, args, kwargs)
        return self.inner(*args, **kwargs)

    def latest_grid(self) -> Grid:
        return self.grid


class Tapped:
    """A kernel in the model: reads what goes into a block's attention and adds to what comes out of it."""

    def __init__(self, model: nn.Module, tap: Tap, kernel: Kernel, grid: Callable[[], Grid], strength: float):
        self.tap, self.kernel, self.grid, self.strength = tap, kernel, grid, strength
        self.source, self.target = model.get_submodule(tap.input), model.get_submodule(tap.output)
        self.source_forward, self.target_forward = self.source.forward, self.target.forward
        self.hidden: torch.Tensor | None = None  # only the mid-width tensor waits between the two taps

    def overrides(self) -> list[tuple[nn.Module, Forward]]:
        """The modules to override, each with its new forward."""
        if self.source is self.target:
            return [(self.source, self.read_and_write)]
        return [(self.source, self.read), (self.target, self.write)]

    def read(self, *args, **kwargs):
        self.hidden = self._hidden_of(args, kwargs)
        return self.source_forward(*args, **kwargs)

    def write(self, x: torch.Tensor, *args, **kwargs):
        hidden, self.hidden = self.hidden, None
        if self.tap.where == "input":
            # The block has just concatenated this tensor for this call alone: adding in place spares its copy.
            self._add_to_slice(x[..., : self.tap.channels], hidden)
            return self.target_forward(x, *args, **kwargs)
        return self._added(self.target_forward(x, *args, **kwargs), hidden)

    def read_and_write(self, *args, **kwargs):
        hidden = self._hidden_of(args, kwargs)
        return self._added(self.source_forward(*args, **kwargs), hidden)

    def _hidden_of(self, args: tuple, kwargs: Mapping[str, Any]) -> torch.Tensor:
        x, grid = _batched(args[0] if args else kwargs["hidden_states"]), self.grid()
        hidden = self.kernel.hidden(x[:, video_slice(self.tap.tokens, x.shape[1], grid, self.tap.input)], grid)
        return hidden if self.strength == 1.0 else hidden * self.strength

    def _added(self, result: Any, hidden: torch.Tensor) -> Any:
        """`result` (or its first item) with the kernel's residual added to its video tokens. A projection's result is
        held by no one else, so that its memory may be used."""
        if isinstance(result, tuple):
            return (self._added(result[0], hidden), *result[1:])
        batched = _batched(result)
        if batched.shape[1] == hidden.shape[1]:
            return self.kernel.expand_onto(batched, hidden, self.grid()).view(result.shape)
        self._add_to_slice(batched, hidden)
        return result

    def _add_to_slice(self, tokens: torch.Tensor, hidden: torch.Tensor) -> None:
        """Add the kernel's residual to the memory behind the video's part of `tokens`."""
        grid = self.grid()
        video = tokens[:, video_slice(self.tap.tokens, tokens.shape[1], grid, self.tap.output)]
        if torch.is_grad_enabled():
            video += self.kernel.expand(hidden, grid).to(video.dtype)
        else:
            self.kernel.expand_onto(video, hidden, grid)


def _batched(x: torch.Tensor) -> torch.Tensor:
    """(B, N, C) of tokens as they are, or of a model that takes one sequence at a time, (N, C)."""
    return x if x.ndim == 3 else x[None]

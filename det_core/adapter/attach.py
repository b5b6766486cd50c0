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
from .temporal_kernel import Grid, TemporalKernel

if TYPE_CHECKING:
    from .motion_adapter import MotionAdapter


@contextmanager
def attach(
    model: nn.Module, adapter: MotionAdapter, *, keep: Iterable[int] | None = None, strength: float = 1.0
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
    grid: list[Grid] = []
    forward = model.forward

    def forward_with_grid(*args, **kwargs):
        grid[:] = [call_grid(spec, args, kwargs)]
        return forward(*args, **kwargs)

    with overridden([(model, forward_with_grid)] if kernels and strength else []):
        with tapped(model, spec, kernels, lambda: grid[0], strength):
            yield model


@contextmanager
def tapped(
    model: nn.Module,
    spec: DiTSpec,
    kernels: Mapping[int, TemporalKernel],
    grid: Callable[[], Grid],
    strength: float = 1.0,
) -> Iterator[nn.Module]:
    """The lower half of `attach`, for any layout: out(video tokens) += strength * kernel(attn_in(video tokens)).

    Args:
        kernels: block index -> module with `.hidden(x, grid)` and `.expand(hidden, grid)`, and where it can add to the
                 attention output by itself, `.expand_onto(base, hidden, grid)`.
        grid:    called at every tap; returns (T, H, W) of the call in progress.
    """
    model = unwrapped(model)
    kernels = kernels if strength else {}
    pairs = [
        pair
        for index, kernel in kernels.items()
        for pair in _tap_overrides(model, spec.taps[index], kernel, grid, strength)
    ]
    with overridden(pairs):
        yield model


def _tap_overrides(
    model: nn.Module, tap: Tap, kernel: TemporalKernel, grid: Callable[[], Grid], strength: float
) -> list[tuple[nn.Module, Forward]]:
    source, target = model.get_submodule(tap.input), model.get_submodule(tap.output)
    read, write = source.forward, target.forward

    def hidden_of(args: tuple, kwargs: Mapping[str, Any]) -> torch.Tensor:
        x = _batched(_first_argument(args, kwargs))
        x = x[:, video_slice(tap.tokens, x.shape[1], grid(), tap.input)]
        hidden = kernel.hidden(x, grid())
        return hidden if strength == 1.0 else hidden * strength

    if source is target:

        def forward_both(*args, **kwargs):
            hidden = hidden_of(args, kwargs)
            return _added(write(*args, **kwargs), tap, kernel, hidden, grid())

        return [(source, forward_both)]

    held: list[torch.Tensor] = []  # only the mid-width tensor waits between the two taps

    def forward_input(*args, **kwargs):
        held[:] = [hidden_of(args, kwargs)]
        return read(*args, **kwargs)

    def forward_output(x, *args, **kwargs):
        hidden = held.pop()
        if tap.where == "input":
            # The block has just concatenated this tensor for this call alone: adding in place spares its copy.
            part = video_slice(tap.tokens, x.shape[1], grid(), tap.output)
            _add_to_slice(x[:, part, : tap.channels], kernel, hidden, grid())
            return write(x, *args, **kwargs)
        return _added(write(x, *args, **kwargs), tap, kernel, hidden, grid())

    return [(source, forward_input), (target, forward_output)]


def _first_argument(args: tuple, kwargs: Mapping[str, Any]) -> torch.Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _batched(x: torch.Tensor) -> torch.Tensor:
    """(B, N, C) of tokens as they are, or of a model that takes one sequence at a time, (N, C)."""
    return x if x.ndim == 3 else x[None]


def _added(result: Any, tap: Tap, kernel: Any, hidden: torch.Tensor, grid: Grid) -> Any:
    """`result` (or its first item) with the kernel's residual added to its video tokens. A projection's result is held
    by no one else, so that its memory may be used."""
    if isinstance(result, tuple):
        return (_added(result[0], tap, kernel, hidden, grid), *result[1:])
    batched = _batched(result)
    if batched.shape[1] == hidden.shape[1]:
        if hasattr(kernel, "expand_onto"):
            return kernel.expand_onto(batched, hidden, grid).view(result.shape)
        return result + kernel.expand(hidden, grid).to(result.dtype).view(result.shape)
    part = video_slice(tap.tokens, batched.shape[1], grid, tap.output)
    _add_to_slice(batched[:, part], kernel, hidden, grid)
    return result


def _add_to_slice(video: torch.Tensor, kernel: Any, hidden: torch.Tensor, grid: Grid) -> None:
    """Add the kernel's residual to the memory behind the view `video`."""
    if hasattr(kernel, "expand_onto") and not torch.is_grad_enabled():
        kernel.expand_onto(video, hidden, grid)
    else:
        video += kernel.expand(hidden, grid).to(video.dtype)

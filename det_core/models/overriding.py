"""Override methods of modules for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextmanager
def overridden(pairs: Iterable[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """Give each module this `forward` on its instance; restored in reverse order, whatever happens."""
    earlier: list[tuple[nn.Module, dict[str, Forward]]] = []
    try:
        for module, forward in pairs:
            earlier.append((module, {"forward": module.__dict__["forward"]} if "forward" in module.__dict__ else {}))
            module.forward = forward
        yield
    finally:
        for module, own in reversed(earlier):
            module.__dict__.pop("forward", None)
            module.__dict__.update(own)


@contextmanager
def replaced(module: nn.Module, name: str, method: Callable) -> Iterator[None]:
    """Give one instance another method for the length of the context."""
    own = module.__dict__.get(name)
    setattr(module, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(module, name)
        else:
            setattr(module, name, own)

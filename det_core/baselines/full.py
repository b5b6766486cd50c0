"""Full fine-tuning: every weight of the transformer moves. The upper bound on fitting the source, looks included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class FullFineTuning(nn.Module):
    """A trainable copy of all floating-point parameters of a transformer, swapped in while attached."""

    def __init__(self, transformer: nn.Module):
        super().__init__()
        self.names = [name for name, _ in transformer.named_parameters()]
        self.weights = nn.ParameterList([p.detach().float().clone() for p in transformer.parameters()])

    @contextmanager
    def attached_to(self, transformer: nn.Module) -> Iterator[None]:
        """Let `transformer` compute with these weights for the time of the context."""
        replaced: list[tuple[nn.Module, str, torch.Tensor]] = []
        for name, weight in zip(self.names, self.weights, strict=True):
            path, _, leaf = name.rpartition(".")
            module = transformer.get_submodule(path)
            replaced.append((module, leaf, module._parameters[leaf]))
            module._parameters[leaf] = weight
        try:
            yield
        finally:
            for module, leaf, original in replaced:
                module._parameters[leaf] = original

"""Which weights an adapter learned on, told by a few of their numbers: files of one model agree on them, however they
are stored; another model of the same shape, such as the second expert of Wan 2.2, does not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from .families import DiTSpec, Family, unwrapped

KEY = "base_identity"  # of an adapter's metadata
COUNT = 32
LONGEST = 900  # characters of what is written
ROUNDING, COARSE = 0.003, 0.06  # relative, of numbers that pass through bfloat16 and through fp8


@dataclass(frozen=True)
class Identity:
    """numbers: of up to `COUNT` vectors (biases and norms, which no format quantises) one each, spread over the model.
    rounding: by which the same weights may differ."""

    numbers: tuple[float, ...]
    rounding: float

    @classmethod
    def of(cls, tensors: Iterable[tuple[str, torch.Tensor]]) -> Identity:
        """Of a model's named weights, in any order."""
        vectors = {name: v for name, v in tensors if v.ndim == 1 and v.is_floating_point() and len(v)}
        names = sorted(name for name in vectors if not name.endswith("_scale"))
        chosen = [vectors[names[i * len(names) // COUNT]] for i in range(COUNT)] if len(names) >= COUNT else []
        chosen = chosen or [vectors[name] for name in names]
        numbers = tuple(float(f"{v[len(v) // 3].float().item():.5g}") for v in chosen)
        return cls(numbers, COARSE if any(v.dtype.itemsize == 1 for v in chosen) else ROUNDING)

    @classmethod
    def read(cls, text: str) -> Identity | None:
        """What `text` wrote; None for anything else."""
        try:
            numbers, rounding = json.loads(text) if len(text) < LONGEST else ()
            return cls(tuple(float(x) for x in numbers[:COUNT]), min(COARSE, float(rounding)))
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        return json.dumps([self.numbers, self.rounding])

    def same(self, other: Identity) -> bool:
        """Whether both can be of the same weights."""
        if len(self.numbers) != len(other.numbers):
            return False
        ours, theirs = torch.tensor(self.numbers), torch.tensor(other.numbers)
        return bool((ours - theirs).norm() <= max(self.rounding, other.rounding) * max(ours.norm(), theirs.norm()))


def identity_of(model: nn.Module, family: Family) -> Identity:
    """Of a diffusers transformer, by the names that its weights have natively: one model has one identity, in whichever
    layout it is loaded."""
    vectors = {name: v for name, v in unwrapped(model).named_parameters() if v.ndim == 1}
    return Identity.of(family.to_native(vectors).items())


def weights_told(transformer: nn.Module, spec: DiTSpec) -> dict[str, str]:
    """The metadata by which a diffusers transformer's weights are known again, in ComfyUI too; of two experts, those of
    each."""
    parts = {f"{KEY}.{name}": transformer.get_submodule(name) for name in spec.experts} or {KEY: transformer}
    return {key: identity_of(part, spec.family).text for key, part in parts.items()}

"""Renaming, fusing and splitting the tensors of a state dict, by templates of their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

Rules = Sequence[tuple[str, str]]


def rename(state_dict: Mapping[str, torch.Tensor], rules: Rules) -> dict[str, torch.Tensor]:
    """Rename by (from, to) templates of the leading part of a key, "{}" standing for a number in both.

    The first rule that fits decides ("blocks.{}.q" fits "blocks.3.q.weight", not "blocks.3.qk.weight"); a key that no
    rule fits keeps its name. Raises ValueError if two keys would end up with one name.
    """
    compiled = [(_pattern(source), target) for source, target in rules]
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        new_key = key
        for pattern, target in compiled:
            if match := pattern.match(key):
                new_key = target.format(*match.groups()) + key[match.end() :]
                break
        if new_key in renamed:
            raise ValueError(f'two tensors of the checkpoint map to "{new_key}": it mixes two naming schemes')
        renamed[new_key] = tensor
    return renamed


@dataclass(frozen=True)
class Fused:
    """Linear layers that are separate in one layout and stacked along their outputs in the other.

    `parent` + `parts` are the separate modules, `whole` the stacked one; "{}" stands for the block's number. All parts
    but the last have as many outputs as inputs, or with `even` all have as many outputs.
    """

    parent: str
    parts: tuple[str, ...]
    whole: str
    even: bool = False


def fuse(state_dict: Mapping[str, torch.Tensor], groups: Sequence[Fused]) -> dict[str, torch.Tensor]:
    """Stack the separate tensors of each group; all other tensors pass. Raises ValueError if a part is missing."""
    tensors = dict(state_dict)
    for group in groups:
        first = _pattern(f"{group.parent}.{group.parts[0]}")
        for key in state_dict:
            if match := first.match(key):
                parent, suffix = group.parent.format(*match.groups()), key[match.end() :]
                names = [f"{parent}.{part}{suffix}" for part in group.parts]
                if missing := [name for name in names if name not in tensors]:
                    raise ValueError(f"the checkpoint is incomplete: {missing[0]} is missing")
                tensors[group.whole.format(*match.groups()) + suffix] = torch.cat([tensors.pop(name) for name in names])
    return tensors


def split(state_dict: Mapping[str, torch.Tensor], groups: Sequence[Fused]) -> dict[str, torch.Tensor]:
    """The inverse of `fuse`; the inputs of a layer are read from its weight, so a bias needs its weight beside it."""
    tensors = dict(state_dict)
    for group in groups:
        whole = _pattern(group.whole)
        for key in state_dict:
            if match := whole.match(key):
                parent, suffix = group.parent.format(*match.groups()), key[match.end() :]
                count, outputs = len(group.parts), state_dict[key].shape[0]
                width = outputs // count if group.even else state_dict[f"{match.group()}.weight"].shape[1]
                sizes = [width] * (count - 1)
                pieces = tensors.pop(key).split([*sizes, outputs - sum(sizes)])
                tensors.update({f"{parent}.{part}{suffix}": p for part, p in zip(group.parts, pieces, strict=True)})
    return tensors


def _pattern(template: str) -> re.Pattern[str]:
    """Matches keys that begin with this template and go on with a dot or end."""
    return re.compile(re.escape(template).replace(r"\{\}", r"(\d+)") + r"(?=\.|$)")

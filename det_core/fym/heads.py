"""Which attention heads of a DiT look within a frame (spatial) and which across frames (temporal).

The paper and its released code disagree on the threshold, so the scores are kept and the rule is a choice:
`balanced` halves the heads, as the paper describes its split; `paper` calls a head temporal unless its spatial score is
1.25 times its temporal one; `code` calls it temporal only if its temporal score is 1.3 times its spatial one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..models.families import spec_for
from ..models.families.projections import head_count

RULES = ("balanced", "paper", "code")
GROUPS = ("spatial", "temporal")


@dataclass(frozen=True)
class HeadMap:
    """Scores of every head of one base model, and the rule that divides them.

    spatial, temporal: (blocks, heads) float32, how much denser than uniform attention a head looks at its own frame,
        and at the same place in other frames. 1 for a head that looks everywhere alike.
    """

    base_model: str  # `DiTSpec.name`
    spatial: torch.Tensor
    temporal: torch.Tensor
    rule: str = "balanced"

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f"heads are divided by the rule {', '.join(RULES)}; there is none called {self.rule!r}")
        if self.spatial.ndim != 2 or self.spatial.shape != self.temporal.shape:
            raise ValueError(f"a head map needs two tables (blocks, heads), got {tuple(self.spatial.shape)}")
        if not (torch.isfinite(self.spatial).all() and torch.isfinite(self.temporal).all()):
            raise ValueError("a head map cannot hold infinite or undefined scores: was the model's attention finite?")

    @property
    def lean(self) -> torch.Tensor:
        """(blocks, heads) log2 of temporal over spatial score: above 0 leans to time."""
        tiny = 1e-12
        return (self.temporal.double().clamp(min=tiny) / self.spatial.double().clamp(min=tiny)).log2()

    @property
    def is_temporal(self) -> torch.Tensor:
        """(blocks, heads) bool; the other heads are spatial. A block may have no head of one kind."""
        if self.rule == "paper":
            return self.spatial < 1.25 * self.temporal
        if self.rule == "code":
            return self.temporal >= 1.3 * self.spatial
        order = self.lean.flatten().argsort(descending=True, stable=True)
        chosen = torch.zeros(order.numel(), dtype=torch.bool)
        chosen[order[: order.numel() // 2]] = True
        return chosen.view_as(self.spatial)

    def group(self, name: str) -> list[list[int]]:
        """The heads of "spatial" or "temporal", one list a block."""
        if name not in GROUPS:
            raise ValueError(f"heads are spatial or temporal, not {name!r}")
        member = self.is_temporal if name == "temporal" else ~self.is_temporal
        return [row.nonzero().flatten().tolist() for row in member]

    def with_rule(self, rule: str) -> HeadMap:
        """The same scores, divided by another rule."""
        return replace(self, rule=rule)

    def check(self, model: nn.Module) -> None:
        """Raises ValueError, naming both, if this map was made on another model than `model`."""
        spec = spec_for(model)
        here = (spec.name, spec.num_blocks, head_count(model, spec))
        if (self.base_model, *self.spatial.shape) != here:
            raise ValueError(
                f"this head map is of {self.base_model} with {self.spatial.shape[0]} blocks of {self.spatial.shape[1]} "
                f"heads, but the model is {here[0]} with {here[1]} blocks of {here[2]} heads: classify its heads anew"
            )

    def to_text(self) -> str:
        """The map as JSON, for a file's metadata; scores keep five significant digits."""

        def table(scores: torch.Tensor) -> list[list[float]]:
            return [[float(f"{value:.5g}") for value in row] for row in scores.tolist()]

        scores = {"spatial": table(self.spatial), "temporal": table(self.temporal)}
        return json.dumps({"base_model": self.base_model, "rule": self.rule, **scores})

    @classmethod
    def from_text(cls, text: str) -> HeadMap:
        """The inverse of `to_text`. Raises ValueError if the text is no head map."""
        try:
            fields = json.loads(text)
            scores = [torch.tensor(fields[name], dtype=torch.float32) for name in GROUPS]
            return cls(str(fields["base_model"]), *scores, rule=fields["rule"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"this is no head map: {error}") from None

"""LoRA on the attention projections q, k, v and o (Hu et al., arXiv 2106.09685), of all heads or of chosen ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ..models.families import DiTSpec, spec_for, unwrapped
from ..models.families.projections import KINDS, Projection, head_count, projections


class LowRank(nn.Module):
    """A matrix up @ down of low rank, (outputs, inputs), zero outside some rows and columns; `up` starts at zero.

    Only the rows and columns that may differ from zero are parameters, so the others are exactly zero for ever.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        down: torch.Tensor,
        up: torch.Tensor,
        rows: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
    ):
        """shape: (outputs, inputs); down: (rank, columns or inputs); up: (rows or outputs, rank)."""
        super().__init__()
        self.shape = shape
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        for name, chosen in (("rows", rows), ("columns", columns)):
            self.register_buffer(name, None if chosen is None else torch.tensor(chosen), persistent=False)

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`down` (rank, inputs) and `up` (outputs, rank) with their zeros filled in."""
        down, up = self.down, self.up
        if self.columns is not None:
            down = down.new_zeros(down.shape[0], self.shape[1]).index_copy(1, self.columns, down)
        if self.rows is not None:
            up = up.new_zeros(self.shape[0], up.shape[1]).index_copy(0, self.rows, up)
        return down, up


class LoRA(nn.Module):
    """Low-rank updates W + (alpha / rank) up @ down of a transformer's attention projections.

    With `heads`, the update of a block touches these heads alone: their rows of q, k and v, and their columns of o.
    All other rows and columns are exactly zero, so that several LoRAs of disjoint heads do not know of each other, and
    each is still an ordinary LoRA to every program that loads one.

    Attributes:
        metadata: text fields that travel in the file, str -> str.
    """

    def __init__(
        self,
        transformer: nn.Module,
        rank: int,
        generator: torch.Generator,
        alpha: float | None = None,
        *,
        heads: Sequence[Sequence[int]] | None = None,
        kinds: str = "qkvo",
    ):
        """heads: for every block the heads that learn, possibly none; None means all. kinds: which projections learn.

        Raises: ValueError if `heads` is for another number of blocks, names a head that is not there, or is empty.
        """
        super().__init__()
        if rank < 1 or not set(kinds) <= set(KINDS) or not kinds:
            raise ValueError(f"a LoRA needs a rank of at least 1 and some of q, k, v, o; got {rank}, {kinds!r}")
        transformer = unwrapped(transformer)
        spec = spec_for(transformer)
        self.scale = (rank if alpha is None else alpha) / rank
        self.metadata: dict[str, str] = {}
        self._remember(spec)
        width = spec.attention_dim // head_count(transformer, spec) if heads is not None else None
        if heads is not None:
            _check_heads(heads, spec, spec.attention_dim // width)
        for (block, kind), projection in projections(spec).items():
            if kind not in kinds or (heads is not None and not heads[block]):
                continue
            linear = transformer.get_submodule(projection.path)
            outputs = spec.attention_dim if projection.fused else linear.out_features
            inputs = linear.in_features
            chosen = None if width is None else [h * width + i for h in sorted(heads[block]) for i in range(width)]
            rows, columns = (None, chosen) if kind == "o" else (chosen, None)
            down = torch.rand(rank, inputs if columns is None else len(columns), generator=generator)
            down = (down * 2 - 1) * inputs**-0.5  # the usual Kaiming-uniform bound
            up = torch.zeros(outputs if rows is None else len(rows), rank)
            self.parts[f"{block} {kind}"] = LowRank((outputs, inputs), down, up, rows, columns)
        if not self.parts:
            raise ValueError("this LoRA would be empty: no block has a head of this kind")

    @classmethod
    def from_weights(cls, spec: DiTSpec, weights: Mapping[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]) -> LoRA:
        """A frozen LoRA of given (down (rank, inputs), up (outputs, rank)) by (block, kind), with a scale of 1."""
        lora = cls.__new__(cls)
        nn.Module.__init__(lora)
        lora.scale, lora.metadata = 1.0, {}
        lora._remember(spec)
        for (block, kind), (down, up) in weights.items():
            lora.parts[f"{block} {kind}"] = LowRank((up.shape[0], down.shape[1]), down, up)
        return lora.requires_grad_(False)

    def _remember(self, spec: DiTSpec) -> None:
        self.base_model, self.num_blocks, self.dim = spec.name, spec.num_blocks, spec.dim
        self.parts = nn.ModuleDict()

    def weights(self) -> dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]:
        """The updates by (block, kind) as (down (rank, inputs), up (outputs, rank)), the scale multiplied into `up`."""
        found = {}
        for place, part in self.by_place().items():
            down, up = part.whole()
            found[place] = (down.detach(), up.detach() * self.scale)
        return found

    def by_place(self) -> dict[tuple[int, str], LowRank]:
        """The parts by (block, kind)."""
        places = (key.split() for key in self.parts)
        return {(int(block), kind): part for (block, kind), part in zip(places, self.parts.values(), strict=True)}

    @contextmanager
    def attached_to(self, transformer: nn.Module, strength: float = 1.0) -> Iterator[None]:
        """Add the updates, times `strength`, to `transformer`'s projections for the time of the context.

        Raises: ValueError naming both models if the LoRA was made for another one.
        """
        transformer = unwrapped(transformer)
        spec = spec_for(transformer)
        spec.check_made_for("LoRA", self.base_model, self.num_blocks, self.dim)
        places = projections(spec)
        handles = []
        for key, part in self.by_place().items() if strength else ():
            place = places[key]
            hook = partial(_with_update, part, place, strength * self.scale)
            handles.append(transformer.get_submodule(place.path).register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _with_update(part: LowRank, place: Projection, factor: float, _module: nn.Module, args: tuple, out: torch.Tensor):
    """A forward hook: a projection's result with the update of its weights, times `factor`."""
    x = args[0]
    down, up = (matrix.to(device=x.device, dtype=x.dtype) for matrix in part.whole())
    return out + place.placed(factor * F.linear(F.linear(x, down), up))


def _check_heads(heads: Sequence[Sequence[int]], spec: DiTSpec, count: int) -> None:
    if len(heads) != spec.num_blocks:
        raise ValueError(f"these heads are of a model with {len(heads)} blocks, but the model is {spec.describe()}")
    for block, chosen in enumerate(heads):
        if outside := [h for h in chosen if not 0 <= h < count]:
            raise ValueError(
                f"block {block} has heads 0 to {count - 1}, not {outside[0]}: these heads are of another model"
            )

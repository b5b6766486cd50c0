"""How much each block's kernel adds to what its attention gives, in a call of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch

from .kernel import Grid, Kernel


class Contributions:
    """The share of each block, by index: the root mean square of what its kernel adds over that of what it adds to,
    averaged over calls."""

    def __init__(self):
        self._shares: dict[int, list[float]] = defaultdict(list)

    def of(self, kernels: Mapping[int, Kernel]) -> dict[int, Kernel]:
        """The kernels of a call without gradients, measured while they act as before."""
        return {block: MeasuredKernel(kernel, self._shares[block]) for block, kernel in kernels.items()}

    def shares(self) -> dict[int, float]:
        """{block: share} of the blocks that were called."""
        return {block: sum(seen) / len(seen) for block, seen in sorted(self._shares.items()) if seen}


class MeasuredKernel(Kernel):
    """A kernel that writes down its share each time it adds."""

    def __init__(self, kernel: Kernel, shares: list[float]):
        self.kernel, self._seen = kernel, shares

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        return self.kernel.hidden(x, grid)

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        return self.kernel.expand(hidden, grid)

    def expand_onto(self, base: torch.Tensor, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        added = self.kernel.expand(hidden, grid)
        size = base.float().square().mean().sqrt().item()
        self._seen.append(added.float().square().mean().sqrt().item() / size if size else 0.0)
        return base.add_(added.to(base.dtype))

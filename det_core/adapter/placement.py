"""Where in the picture and when in the video kernels act: a weight for each token on what they add."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .kernel import Grid, Kernel


@dataclass(frozen=True)
class Window:
    """The part of a video that one call sees: `frames`, in their order, of its `total` latent frames."""

    frames: Sequence[int]
    total: int


@dataclass(frozen=True)
class Placement:
    """Attributes:
    mask:        (F, H, W) in [0, 1], 1 where kernels act; its frames are spread over the video, one is for all of it.
    over_frames: factor at a place in the video, from 0, its first latent frame, to 1, its last.
    """

    mask: torch.Tensor | None = None
    over_frames: Callable[[float], float] | None = None

    def weights(self, grid: Grid, window: Window | None = None) -> torch.Tensor | None:
        """(1, T*H*W, 1) weights of a video's tokens, each the mask's mean over what the token covers times the factor
        of its time; None where all are 1. window: what of the video has these tokens, where not all of it."""
        whole = grid if window is None else (window.total, *grid[1:])
        weights = torch.ones(whole)
        if self.mask is not None:
            weights = F.interpolate(self.mask[None, None].float(), whole, mode="area")[0, 0]
        if self.over_frames is not None:
            factors = [self.over_frames(t / max(1, whole[0] - 1)) for t in range(whole[0])]
            weights = weights * torch.tensor(factors).view(-1, 1, 1)
        if window is not None:
            weights = F.interpolate(weights[list(window.frames)][None, None], grid, mode="area")[0, 0]
        return None if (weights == 1).all() else weights.reshape(1, -1, 1)


class PlacedKernel(Kernel):
    """A kernel that adds to each token by its weight, and to a token of weight 0 nothing.

    The weights multiply what comes out of the second convolution, so that no frame reaches into one with another mask.
    """

    def __init__(self, kernel: Kernel, weights: torch.Tensor):
        self.kernel, self.weights = kernel, weights

    def hidden(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        return self.kernel.hidden(x, grid)

    def expand(self, hidden: torch.Tensor, grid: Grid) -> torch.Tensor:
        return self.kernel.expand(hidden, grid) * self.weights


def placed(
    kernels: Mapping[int, Kernel], placement: Placement, grid: Grid, like: torch.Tensor, window: Window | None = None
) -> Mapping[int, Kernel]:
    """The kernels of a call with tokens of `grid`, weighted; themselves where every weight is 1. like: a tensor of the
    call's device and number format. window: what of the video the call sees, where not all of it."""
    weights = placement.weights(grid, window)
    if weights is None:
        return kernels
    weights = weights.to(like)
    return {index: PlacedKernel(kernel, weights) for index, kernel in kernels.items()}

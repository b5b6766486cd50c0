"""At which noise a training looks: the times that its steps draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .families.spec import EXPERTS

NOISES = ("uniform", "as sampled")
# Wan 2.2 gives its first expert sigmas above 0.875 (text) or 0.9 (picture), graphs change at 0.83: the two overlap.
SPANS = {"all": (0.0, 1.0), "high": (0.8, 1.0), "low": (0.0, 0.92)}
TRACKED = 0.4  # share of a sampling, its end, in which the paper's CogVideoX is tracked: t <= 400 of even steps

TimeAt = Callable[[float], float]  # (share of a sampling that is left, 1 at its begin) -> time, 0 (clean) to 1000


@dataclass(frozen=True)
class Noise:
    """How training steps draw their times.

    power: of the uniform number; 1 is the paper's, below 1 draws towards noise. Not where times are as sampled.
    span: what is looked at, of 0 (clean) to 1: of a flow model's sigma, of the others' time steps.
    as_sampled: a time is as likely as a sampler of many steps is to call the model there; otherwise all are alike.
    """

    power: float = 1.0
    span: tuple[float, float] = (0.0, 1.0)
    as_sampled: bool = False

    def times(self, u: torch.Tensor, time_at: TimeAt) -> torch.Tensor:
        """(B,) times for uniform numbers `u` (B,) of [0, 1)."""
        low, high = (1000 * end for end in self.span)
        if not self.as_sampled:
            return low + (high - low) * u**self.power
        first, last = _left_at(time_at, low), _left_at(time_at, high)
        return torch.tensor([time_at(x) for x in (first + (last - first) * u.double()).tolist()])

    def track_limit(self, own: float, time_at: TimeAt) -> float:
        """The time up to which the tracking loss acts; `own`: the base model's.

        Where a schedule puts nearly all of its steps above that, nothing of a training would be tracked. So with times
        as they are sampled it acts in the same share of the steps as in the paper, at the end, where x0 is clearest.
        """
        return max(own, time_at(TRACKED)) if self.as_sampled else own


UNIFORM = Noise()  # the paper's


def span_of(
    choice: str, *, expert: str | None = None, boundary: float | None = None
) -> tuple[str, tuple[float, float]]:
    """(name, span) of the part of the noise that a training looks at.

    choice: a name of `SPANS`, or "auto": that of the `expert` that is trained, or all. boundary: the time at which two
    experts that are trained as one model take turns; their spans then meet there and do not overlap.
    """
    name = (expert or "all") if choice == "auto" else choice
    if boundary is None or name == "all":
        return name, SPANS[name]
    return name, (boundary / 1000, 1.0) if name == "high" else (0.0, boundary / 1000)


def learning(span: tuple[float, float], boundary: float | None) -> tuple[str, ...]:
    """The experts that learn when a training looks at `span`: both, one of the two that take turns at `boundary`, or
    the one whose own span it is; none where that is no matter of experts."""
    if boundary is None:
        return tuple(name for name in EXPERTS if SPANS[name] == tuple(span))
    low, high = (1000 * end for end in span)
    return tuple(name for name, meets in zip(EXPERTS, (high > boundary, low < boundary), strict=True) if meets)


def shifted(left: float, shift: float) -> float:
    """The time of a flow model whose schedule is shifted towards noise, with the share `left` of its sampling to go."""
    return 1000 * shift * left / (1 + (shift - 1) * left)


def _left_at(time_at: TimeAt, t: float) -> float:
    """The share of a sampling that is left at time `t`, by bisection: schedules only fall."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if time_at(middle) < t else (low, middle)
    return high

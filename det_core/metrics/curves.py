"""Two halves of a motion fidelity for pairs of tracks: how near the curves are, and how well the steps agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch

EPSILON = 1e-8  # smallest product of two step lengths that a cosine is divided by
STATIC_PX = 0.25  # a shorter step is no motion; lengths are pixels of a 720x480 frame
MOVED_PX = 1.0  # what a track must travel over several steps for that to be motion: a tracker's jitter stays below it
REFERENCE_SIZE = (720.0, 480.0)  # width and height that these lengths refer to


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Discrete Frechet distance of curves a (..., T1, 2) and b (..., T2, 2), batch dimensions broadcast.

    The classic dynamic program c[i, j] = max(d[i, j], min(c[i-1, j], c[i, j-1], c[i-1, j-1])), swept along
    anti-diagonals so that every step works on all curves at once.
    """
    rows, columns = a.shape[-2], b.shape[-2]
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    previous = before = a.new_full((*batch, rows + 1), torch.inf)  # slot i + 1 holds row i; slot 0 stays out of reach
    for diagonal in range(rows + columns - 1):
        low, high = max(0, diagonal - columns + 1), min(rows - 1, diagonal)
        distance = a[..., low : high + 1, :] - b[..., diagonal - high : diagonal - low + 1, :].flip(-2)
        current = a.new_full((*batch, rows + 1), torch.inf)
        if diagonal == 0:
            reached = a.new_zeros(())
        else:
            reached = torch.minimum(previous[..., low : high + 1], previous[..., low + 1 : high + 2])
            reached = torch.minimum(reached, before[..., low : high + 1])
        current[..., low + 1 : high + 2] = torch.maximum(length(distance), reached)
        before, previous = previous, current
    return previous[..., rows]


def length(steps: torch.Tensor) -> torch.Tensor:
    """(..., 2) -> (...); several times faster than norm over an axis of two."""
    return torch.hypot(steps[..., 0], steps[..., 1])


def hold_hidden(points: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Replace hidden points (..., T, 2) by the last seen one (the first seen one at the start).

    Repeated points leave a discrete Frechet distance unchanged, so curves of different lengths fit one tensor.
    """
    frame = torch.arange(seen.shape[-1], device=seen.device).expand(seen.shape)
    held = torch.where(seen, frame, -1).cummax(-1).values
    first = seen.int().argmax(-1, keepdim=True)
    held = torch.where(held < 0, first, held)
    return points.expand(*seen.shape, 2).gather(-2, held[..., None].expand(*held.shape, 2))


def moved(steps: torch.Tensor, least: float = STATIC_PX) -> torch.Tensor:
    """(..., 2) normalised displacements -> (...) bool: at least `least` px long at 720x480."""
    return length(steps * steps.new_tensor(REFERENCE_SIZE)) >= least


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(..., 2), (..., 2) -> (...); 0 where one of the two has no length."""
    return (a * b).sum(-1) / (length(a) * length(b)).clamp_min(EPSILON)


def shared_halves(
    source: torch.Tensor, generated: torch.Tensor, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shape and direction of pairs of tracks (..., T, 2) over the frames `seen` (..., T) in both; NaN where there is no
    step. The paper's metric: what one of the two videos does not show is left out."""
    shape = torch.exp(-frechet_distance(hold_hidden(source, seen), hold_hidden(generated, seen)))
    step, other = source.diff(dim=-2), generated.diff(dim=-2)
    counted = seen[..., 1:] & seen[..., :-1]
    moving = counted & moved(step)
    direction = (cosine(step, other) * moving).sum(-1) / moving.sum(-1)
    rests = (counted & ~moved(other)).sum(-1).to(step.dtype) / counted.sum(-1)
    direction = torch.where(moving.any(-1), direction, rests)
    comparable = counted.any(-1)
    return torch.where(comparable, shape, torch.nan), torch.where(comparable, direction, torch.nan)


@dataclass(frozen=True)
class Spans:
    """For each of the T-1 steps of N tracks: the frames between which its direction is taken. All (N, T-1).

    moving: bool, the track moves between them; steps of a track that stands still, and hidden ones, are False.
    """

    start: torch.Tensor
    end: torch.Tensor
    moving: torch.Tensor

    def displacements(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., N, T, 2) -> (..., N, T-1, 2), from the start of each step's span to its end."""
        track = torch.arange(len(self.start), device=points.device)[:, None]
        return points[..., track, self.end, :] - points[..., track, self.start, :]

    def shown(self, seen: torch.Tensor) -> torch.Tensor:
        """Visibility (..., N, T) -> (..., N, T-1) bool: both ends of each step's span are seen."""
        track = torch.arange(len(self.start), device=seen.device)[:, None]
        return seen[..., track, self.start] & seen[..., track, self.end]


def spans(points: torch.Tensor, seen: torch.Tensor) -> Spans:
    """The shortest span around each step over which the track really moves.

    That is the step itself where it is 0.25 px long or more, else the shortest centred span of such short steps
    (shifted where it would leave the video) over which the track travels 1 px: slow motion has a direction, too.

    Args: points (N, T, 2), seen (N, T) bool; only spans with both ends seen count.
    """
    frames = seen.shape[-1]
    step = torch.arange(frames - 1, device=seen.device)
    start, end = (s.expand(len(points), -1).clone() for s in (step, step + 1))
    shown = seen[:, 1:] & seen[:, :-1]
    moving = shown & moved(points.diff(dim=1))
    fast = torch.nn.functional.pad(moving.cumsum(-1), (1, 0))  # (N, T): steps before a frame that move by themselves
    for reach in range(2, frames):
        waiting = shown & ~moving
        if not waiting.any():
            break
        first = (step - (reach - 1) // 2).clamp(0, frames - 1 - reach)
        last = first + reach
        slow = seen[:, first] & seen[:, last] & (fast[:, first] == fast[:, last])
        found = waiting & slow & moved(points[:, last] - points[:, first], MOVED_PX)
        start, end = torch.where(found, first, start), torch.where(found, last, end)
        moving = moving | found
    return Spans(start, end, moving)


@dataclass(frozen=True)
class StepAgreement:
    """What a generated track makes of each step of its source track; all (..., T-1), `counted` bool.

    counted:   the source shows this step.
    shared:    the generated video shows it, too; 0 or 1.
    shape:     nearness of the two curves in [0, 1]; 0 where the generated video lost the point.
    direction: cosine in [-1, 1]; 0 where it lost the point. Counts where `directed`.
    directed:  the source moves at this step, or never moves at all and rest is what has to be followed.
    """

    counted: torch.Tensor
    shared: torch.Tensor
    shape: torch.Tensor
    direction: torch.Tensor
    directed: torch.Tensor


def step_agreement(
    source: torch.Tensor, generated: torch.Tensor, seen: torch.Tensor, seen_generated: torch.Tensor
) -> StepAgreement:
    """Compare pairs of tracks step by step, everything that the source shows.

    Args:
        source (N, T, 2), seen (N, T): the source's tracks.
        generated (N, T, 2), seen_generated (N, T): their partners, or (M, N, T, 2) and (M, N, T): M partners each.
    """
    counted = seen[:, 1:] & seen[:, :-1]
    both = seen & seen_generated
    shared = both[..., 1:] & both[..., :-1]
    nearness = torch.exp(-frechet_distance(hold_hidden(source, both), hold_hidden(generated, both)))
    own = spans(source, seen)
    followed = cosine(own.displacements(source), own.displacements(generated)) * own.shown(seen_generated)
    others = spans(generated.reshape(-1, *generated.shape[-2:]), seen_generated.reshape(-1, seen.shape[-1]))
    rests = shared & ~others.moving.view(shared.shape)
    still = ~own.moving.any(-1, keepdim=True)
    return StepAgreement(
        counted=counted,
        shared=shared.to(source.dtype),
        shape=nearness[..., None] * shared,
        direction=torch.where(still, rests.to(source.dtype), followed),
        directed=torch.where(still, counted, own.moving),
    )

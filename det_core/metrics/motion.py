"""Motion fidelity: how closely the tracked motion of a generated video follows the tracked motion of its source."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from ..tracking.tracks import Tracks

logger = logging.getLogger(__name__)

ALPHA = 0.5  # weight of the shape half
EPSILON = 1e-8  # smallest product of two step lengths that a cosine is divided by
STATIC_PX = 0.25  # a shorter step is no motion; measured in pixels of a 720x480 frame
REFERENCE_SIZE = (720.0, 480.0)  # width and height that STATIC_PX refers to
SHARED_SHARE = 0.5  # best match: two tracks must be seen together for this share of the track that looks for a partner
REFERENCE_IDS = 50  # tracks that the released evaluation draws for its distance half
PAIRS_AT_ONCE = 20_000  # bounds the memory of all-pairs comparisons


@dataclass(frozen=True)
class MotionScore:
    """One motion fidelity. `float(score)` is `score.score`.

    Attributes:
        score:        ALPHA * shape + (1 - ALPHA) * direction; 1 is the same motion.
        shape:        distance half in [0, 1].
        direction:    cosine half in [-1, 1].
        per_track:    (N,) score of each generated track, NaN where it could not be compared ("reference_code": its
            direction half, since the distance half there belongs to randomly drawn tracks).
        static_share: share of the source's visible steps that are shorter than STATIC_PX.
        compared:     share of the generated tracks that could be compared.
    """

    score: float
    shape: float
    direction: float
    per_track: torch.Tensor
    static_share: float
    compared: float

    def __float__(self) -> float:
        return self.score


def motion_fidelity(
    source: Tracks,
    generated: Tracks,
    variant: str = "hybrid",
    matching: str = "index",
    generator: torch.Generator | None = None,
) -> MotionScore:
    """Compare the motion of two videos by their point tracks.

    "hybrid" is the paper's M = mean_n [alpha exp(-d_F) + (1 - alpha) mean_t cos] with the true discrete Frechet
    distance d_F in units of the frame (DeT, arXiv 2503.17350, metric M). Only frames in which a track is visible in
    both videos count, in both halves; a step counts for the cosine if both of its frames do. Steps of the source
    shorter than 0.25 px (at 720x480) have no direction and are skipped; a generated step of no length there counts as
    cosine 0. A source track that never moves scores the share of its steps at which the generated track rests as well.

    "reference_code" is what the released evaluation computes instead: 1 / (1 + mean of all pairwise point distances)
    over 50 randomly drawn tracks, and a cosine whose first vector is the start position, each with the best source
    track per generated track, hidden points included. `matching` has no effect on it. Zero steps, which make the
    released code answer NaN, count as cosine 0.

    Args:
        source, generated: tracks with the same number of frames.
        variant:   "hybrid" or "reference_code".
        matching:  "index" compares track n with track n. "best" gives each generated track its best source track and
            each source track its best generated track, and averages the two; partners must be seen together for at
            least half of the time that the track looking for a partner is visible.
        generator: draws the 50 tracks of "reference_code"; None draws with seed 0.

    Raises:
        ValueError: frame counts differ, track counts differ with matching="index", or nothing is visible in both.
    """
    if variant not in ("hybrid", "reference_code"):
        raise ValueError(f"variant {variant!r} is unknown: use 'hybrid' or 'reference_code'")
    if matching not in ("index", "best"):
        raise ValueError(f"matching {matching!r} is unknown: use 'index' or 'best'")
    frames = source.points.shape[1], generated.points.shape[1]
    if frames[0] != frames[1]:
        raise ValueError(
            f"the source tracks have {frames[0]} frames and the generated tracks {frames[1]}: "
            f"resample one of them, for example source.resample({frames[1]})"
        )
    if frames[0] < 2:
        raise ValueError("motion needs tracks of at least 2 frames; these have 1")
    for name, tracks in (("source", source), ("generated", generated)):
        if not tracks.visible.any():
            raise ValueError(f"no point of the {name} tracks is visible in any frame: there is no motion to compare")
    if source.tracker and generated.tracker and source.tracker != generated.tracker:
        logger.warning(
            "motion fidelity between tracks of %s and of %s: scores of different trackers do not compare",
            source.tracker,
            generated.tracker,
        )
    if variant == "reference_code":
        return _reference_code(source, generated, generator)
    if matching == "index":
        return _by_index(source, generated)
    return _by_best_match(source, generated)


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
        current[..., low + 1 : high + 2] = torch.maximum(_length(distance), reached)
        before, previous = previous, current
    return previous[..., rows]


def _length(steps: torch.Tensor) -> torch.Tensor:
    """(..., 2) -> (...); several times faster than norm over an axis of two."""
    return torch.hypot(steps[..., 0], steps[..., 1])


def _moves(steps: torch.Tensor) -> torch.Tensor:
    """(..., 2) normalised steps -> (...) bool: at least STATIC_PX long at 720x480."""
    return _length(steps * steps.new_tensor(REFERENCE_SIZE)) >= STATIC_PX


def _hold_hidden(points: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Replace hidden points (..., T, 2) by the last seen one (the first seen one at the start).

    Repeated points leave a discrete Frechet distance unchanged, so curves of different lengths fit one tensor.
    """
    frame = torch.arange(seen.shape[-1], device=seen.device).expand(seen.shape)
    held = torch.where(seen, frame, -1).cummax(-1).values
    first = seen.int().argmax(-1, keepdim=True)
    held = torch.where(held < 0, first, held)
    return points.expand(*seen.shape, 2).gather(-2, held[..., None].expand(*held.shape, 2))


def _halves(source: torch.Tensor, generated: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shape and direction halves of pairs of tracks (..., T, 2), `seen` (..., T); NaN where no step is seen in both."""
    shape = torch.exp(-frechet_distance(_hold_hidden(source, seen), _hold_hidden(generated, seen)))
    step = source[..., 1:, :] - source[..., :-1, :]
    other = generated[..., 1:, :] - generated[..., :-1, :]
    counted = seen[..., 1:] & seen[..., :-1]
    moving = counted & _moves(step)
    cosine = (step * other).sum(-1) / (_length(step) * _length(other)).clamp_min(EPSILON)
    direction = (cosine * moving).sum(-1) / moving.sum(-1)
    rests = (counted & ~_moves(other)).sum(-1).to(step.dtype) / counted.sum(-1)
    direction = torch.where(moving.any(-1), direction, rests)
    comparable = counted.any(-1)
    return torch.where(comparable, shape, torch.nan), torch.where(comparable, direction, torch.nan)


def _static_share(tracks: Tracks) -> float:
    counted = tracks.visible[:, 1:] & tracks.visible[:, :-1]
    resting = counted & ~_moves((tracks.points[:, 1:] - tracks.points[:, :-1]).double())
    return (resting.sum() / counted.sum().clamp_min(1)).item()


def _nothing_shared() -> ValueError:
    return ValueError(
        "no track is visible in both videos in two frames in a row: nothing can be compared; track more points, "
        "or compare by matching='best'"
    )


def _by_index(source: Tracks, generated: Tracks) -> MotionScore:
    counts = source.points.shape[0], generated.points.shape[0]
    if counts[0] != counts[1]:
        raise ValueError(
            f"the source has {counts[0]} tracks and the generated video {counts[1]}: matching='index' needs as many of "
            "each; use matching='best'"
        )
    shape, direction = _halves(
        source.points.double(),
        generated.points.double(),
        source.visible & generated.visible,
    )
    if shape.isnan().all():
        raise _nothing_shared()
    return MotionScore(
        score=(ALPHA * shape.nanmean() + (1 - ALPHA) * direction.nanmean()).item(),
        shape=shape.nanmean().item(),
        direction=direction.nanmean().item(),
        per_track=ALPHA * shape + (1 - ALPHA) * direction,
        static_share=_static_share(source),
        compared=(~shape.isnan()).double().mean().item(),
    )


def _by_best_match(source: Tracks, generated: Tracks) -> MotionScore:
    visible, visible_generated = source.visible, generated.visible
    chunk = max(1, PAIRS_AT_ONCE // visible.shape[0])
    blocks = [
        _halves(
            source.points.double()[:, None],
            generated.points.double()[None, start : start + chunk],
            visible[:, None] & visible_generated[None, start : start + chunk],
        )
        for start in range(0, visible_generated.shape[0], chunk)
    ]
    shape, direction = (torch.cat(parts, dim=1) for parts in zip(*blocks, strict=True))  # (N, M)
    score = ALPHA * shape + (1 - ALPHA) * direction
    together = visible.double() @ visible_generated.double().T  # frames that both are visible in
    halves = []
    for axis, own in (
        (0, visible_generated.sum(1)[None]),
        (1, visible.sum(1)[:, None]),
    ):
        allowed = ~score.isnan() & (together >= SHARED_SHARE * own)
        best, partner = torch.where(allowed, score, -torch.inf).max(axis)
        found = allowed.any(axis)
        if not found.any():
            raise _nothing_shared()
        chosen = [values.gather(axis, partner.unsqueeze(axis)).squeeze(axis) for values in (shape, direction)]
        halves.append(
            (
                chosen[0][found].mean(),
                chosen[1][found].mean(),
                torch.where(found, best, torch.nan),
            )
        )
    shape_half = (halves[0][0] + halves[1][0]) / 2
    direction_half = (halves[0][1] + halves[1][1]) / 2
    per_track = halves[0][2]
    return MotionScore(
        score=(ALPHA * shape_half + (1 - ALPHA) * direction_half).item(),
        shape=shape_half.item(),
        direction=direction_half.item(),
        per_track=per_track,
        static_share=_static_share(source),
        compared=(~per_track.isnan()).double().mean().item(),
    )


def _reference_code(source: Tracks, generated: Tracks, generator: torch.Generator | None) -> MotionScore:
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    a, b = generated.points.double(), source.points.double()
    vectors = []
    for points in (a, b):
        steps = torch.cat([points[:, :1], points[:, 1:] - points[:, :-1]], dim=1)
        vectors.append(steps / steps.norm(dim=-1, keepdim=True).clamp_min(EPSILON))
    cosine = torch.einsum("mtc,ntc->mn", *vectors) / a.shape[1]
    ids = torch.randint(0, min(len(a), len(b)), (REFERENCE_IDS,), generator=generator)
    drawn_a, drawn_b = a[ids], b[ids]
    distance = torch.stack([torch.cdist(track, drawn_b).mean((-1, -2)) for track in drawn_a])  # (50, 50)
    direction, shape = cosine.amax(1), (1 / (1 + distance)).amax(1)
    return MotionScore(
        score=(0.5 * direction.mean() + 0.5 * shape.mean()).item(),
        shape=shape.mean().item(),
        direction=direction.mean().item(),
        per_track=direction,
        static_share=_static_share(source),
        compared=1.0,
    )

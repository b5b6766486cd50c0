"""Motion fidelity: how closely the tracked motion of a generated video follows the tracked motion of its source."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch

from ..tracking.tracks import Tracks
from .curves import frechet_distance, moved, shared_halves, step_agreement
from .partners import ALPHA, best, over_steps, pairs
from .reference_code import reference_halves

logger = logging.getLogger(__name__)

__all__ = ["MINIMUM_COVERAGE", "VARIANTS", "MotionScore", "frechet_distance", "matching_of", "motion_fidelity"]

VARIANTS = ("strict", "hybrid", "reference_code")
MINIMUM_COVERAGE = 0.5  # of the source's steps must be seen in the generated video, or its motion is not measured
SAME_PLACE = 0.01  # of the picture: more than rounding to whole pixels moves a point
SHARED_SHARE = 0.5  # best match: two tracks must be seen together for this share of the track that looks for a partner


@dataclass(frozen=True)
class MotionScore:
    """One motion fidelity. `float(score)` is `score.score`.

    Attributes:
        score:        ALPHA * shape + (1 - ALPHA) * direction; 1 is the same motion.
        shape:        distance half in [0, 1].
        direction:    cosine half in [-1, 1].
        per_track:    (N,) score of each track ("best" and "reference_code": of each generated track), NaN where it
            could not be compared ("reference_code": its direction half, since the distance half there belongs to
            randomly drawn tracks).
        static_share: share of the source's visible steps that are shorter than 0.25 px.
        compared:     share of these tracks that could be compared.
        coverage:     share of the steps shown by the source that the generated video shows as well, every moment
            counting the same; None where "reference_code" compares different numbers of tracks.
    """

    score: float
    shape: float
    direction: float
    per_track: torch.Tensor
    static_share: float
    compared: float
    coverage: float | None

    @property
    def measured(self) -> bool:
        """Whether enough of the source's motion was seen to say how it was followed."""
        return self.coverage is None or self.coverage >= MINIMUM_COVERAGE

    @property
    def doubt(self) -> str:
        """Why it is not measured, "" where it is."""
        if self.measured:
            return ""
        return (
            f"only {self.coverage:.0%} of the source's steps are seen in the video, fewer than {MINIMUM_COVERAGE:.0%}: "
            "its points are lost, which may be the tracker's fault or the video's"
        )

    def __float__(self) -> float:
        return self.score


def motion_fidelity(
    source: Tracks,
    generated: Tracks,
    variant: str = "strict",
    matching: str = "index",
    generator: torch.Generator | None = None,
) -> MotionScore:
    """Compare the motion of two videos by their point tracks.

    "hybrid" is the paper's M = mean_n [alpha exp(-d_F) + (1 - alpha) mean_t cos] with the true discrete Frechet
    distance d_F in units of the frame (DeT, arXiv 2503.17350, metric M). Only frames in which a track is visible in
    both videos count, in both halves; a step counts for the cosine if both of its frames do. Steps of the source
    shorter than 0.25 px (at 720x480) have no direction and are skipped; a generated step of no length there counts as
    cosine 0. A source track that never moves scores the share of its steps at which the generated track rests as well.

    "strict", the default, is the same metric over everything that the SOURCE shows, so that a video cannot gain by
    falling apart: where it loses a point, both halves are 0. Every moment of the source counts the same, however many
    of its points are seen. Where the source moves less than 0.25 px a step, its direction is taken over the shortest
    span in which it moves 1 px. Where nothing is lost and nothing is slow, it equals "hybrid".

    "hybrid" and "reference_code" take the points that were chosen in the first frame, where the tracks say so; "strict"
    takes those of later frames as well, which follow what the first ones lost or what comes into view later.

    "reference_code" is what the released evaluation computes instead: 1 / (1 + mean of all pairwise point distances)
    over 50 randomly drawn tracks, and a cosine whose first vector is the start position, each with the best source
    track per generated track, hidden points included. `matching` has no effect on it. Zero steps, which make the
    released code answer NaN, count as cosine 0.

    Args:
        source, generated: tracks with the same number of frames.
        variant:   one of VARIANTS.
        matching:  "index" compares track n with track n, see `matching_of`. "best" gives each generated track its best
            source track and each source track its best generated track, and averages the two; what a generated track
            shows must be seen together for at least half of the time that the track looking for a partner is visible.
        generator: draws the 50 tracks of "reference_code"; None draws with seed 0.

    Raises:
        ValueError: frame counts differ, track counts differ with matching="index", the source shows nothing, or, but
            for "strict", nothing is visible in both.
    """
    _check(source, generated, variant, matching)
    if variant == "strict":
        if matching == "best":
            return _by_best_match(source, generated, strict=True)
        return _strict_by_index(source, generated)
    chosen = _of_the_first_frame(source)
    source, by_index = source.only(chosen), variant == "hybrid" and matching == "index"
    chosen = chosen if by_index else _of_the_first_frame(generated)
    shown = generated.only(chosen)
    if variant == "reference_code":
        score = _by_reference_code(source, shown, generator)
    elif matching == "best":
        score = _by_best_match(source, shown, strict=False)
    else:
        score = _shared_by_index(source, shown)
    per_track = score.per_track.new_full((len(generated),), torch.nan)
    per_track[chosen] = score.per_track
    return replace(score, per_track=per_track)


def matching_of(source: Tracks, generated: Tracks) -> str:
    """How `motion_fidelity` has to match these tracks: "index" where track n of both is the same point, chosen at the
    same place of the same frame as `track_again` does, else "best"."""
    if len(source) != len(generated):
        return "best"
    (places, frames), (generated_places, generated_frames) = source.queries(), generated.queries()
    near = (places - generated_places).abs() <= SAME_PLACE
    return "index" if torch.equal(frames, generated_frames) and near.all() else "best"


def _of_the_first_frame(tracks: Tracks) -> torch.Tensor:
    """(N,) bool: the points that were chosen in the first frame, as the paper's are; all where none was."""
    first = torch.zeros(len(tracks), dtype=torch.bool) if tracks.query_frames is None else tracks.query_frames == 0
    return first if first.any() else torch.ones_like(first)


def _check(source: Tracks, generated: Tracks, variant: str, matching: str) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown: use one of {', '.join(VARIANTS)}")
    if matching not in ("index", "best"):
        raise ValueError(f"matching {matching!r} is unknown: use 'index' or 'best'")
    if source.frames != generated.frames:
        raise ValueError(
            f"the source tracks have {source.frames} frames and the generated tracks {generated.frames}: "
            f"resample one of them, for example source.resample({generated.frames})"
        )
    if source.frames < 2:
        raise ValueError("motion needs tracks of at least 2 frames; these have 1")
    shown = [("source", source)] if variant == "strict" else [("source", source), ("generated", generated)]
    for name, tracks in shown:
        if not tracks.visible.any():
            raise ValueError(f"no point of the {name} tracks is visible in any frame: there is no motion to compare")
    if variant == "strict" and not _steps_shown(source).any():
        raise ValueError("no source track is visible in two frames in a row: there is no motion to compare")
    if matching == "index" and variant != "reference_code" and len(source) != len(generated):
        raise ValueError(
            f"the source has {len(source)} tracks and the generated video {len(generated)}: matching='index' needs as "
            "many of each; use matching='best'"
        )
    if source.tracker and generated.tracker and source.tracker != generated.tracker:
        logger.warning(
            "motion fidelity between tracks of %s and of %s: scores of different trackers do not compare",
            source.tracker,
            generated.tracker,
        )


def _steps_shown(tracks: Tracks) -> torch.Tensor:
    """(N, T-1) bool."""
    return tracks.visible[:, 1:] & tracks.visible[:, :-1]


def _static_share(tracks: Tracks) -> float:
    counted = _steps_shown(tracks)
    resting = counted & ~moved(tracks.points.double().diff(dim=1))
    return (resting.sum() / counted.sum().clamp_min(1)).item()


def _over_moments(values: torch.Tensor, counted: torch.Tensor) -> float:
    """Mean over the tracks that count at a step, then over the steps at which any counts. Both (N, T-1)."""
    number = counted.sum(0)
    return ((values * counted).sum(0) / number)[number > 0].mean().item()


def _coverage(source: Tracks, generated: Tracks) -> float | None:
    if len(source) != len(generated):
        return None
    shown = _steps_shown(source)
    return _over_moments(shown & _steps_shown(generated), shown) if shown.any() else 0.0


def _strict_by_index(source: Tracks, generated: Tracks) -> MotionScore:
    found = step_agreement(source.points.double(), generated.points.double(), source.visible, generated.visible)
    shape = _over_moments(found.shape, found.counted)
    direction = _over_moments(found.direction, found.directed)
    per_track = ALPHA * over_steps(found.shape, found.counted)
    per_track = per_track + (1 - ALPHA) * over_steps(found.direction, found.directed)
    return MotionScore(
        score=ALPHA * shape + (1 - ALPHA) * direction,
        shape=shape,
        direction=direction,
        per_track=per_track,
        static_share=_static_share(source),
        compared=(~per_track.isnan()).double().mean().item(),
        coverage=_over_moments(found.shared, found.counted),
    )


def _nothing_shared() -> ValueError:
    return ValueError(
        "no track is visible in both videos in two frames in a row: nothing can be compared; track more points, "
        "or compare by matching='best'"
    )


def _shared_by_index(source: Tracks, generated: Tracks) -> MotionScore:
    shape, direction = shared_halves(
        source.points.double(), generated.points.double(), source.visible & generated.visible
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
        coverage=_coverage(source, generated),
    )


def _by_best_match(source: Tracks, generated: Tracks, strict: bool) -> MotionScore:
    shape, direction = pairs(source, generated, strict=False)  # (M, N)
    visible, visible_generated = source.visible.double(), generated.visible.double()
    together = visible_generated @ visible.T  # frames that both are visible in
    known = ~shape.isnan()
    for_generated = best(shape, direction, known & (together >= SHARED_SHARE * visible_generated.sum(1)[:, None]))
    if strict:
        shape, direction = (half.mT for half in pairs(source, generated, strict=True))
        for_source = best(shape, direction, ~shape.isnan())
    else:
        allowed = known & (together >= SHARED_SHARE * visible.sum(1)[None])
        for_source = best(shape.mT, direction.mT, allowed.mT)
    if not for_source.found.any() or not (strict or for_generated.found.any()):
        raise _nothing_shared()
    partner = Tracks(generated.points[for_source.partner], generated.visible[for_source.partner])
    halves = [(best.mean(best.shape), best.mean(best.direction)) for best in (for_generated, for_source)]
    shape_half, direction_half = ((a + b) / 2 for a, b in zip(*halves, strict=True))
    return MotionScore(
        score=ALPHA * shape_half + (1 - ALPHA) * direction_half,
        shape=shape_half,
        direction=direction_half,
        per_track=ALPHA * for_generated.shape + (1 - ALPHA) * for_generated.direction,
        static_share=_static_share(source),
        compared=for_generated.found.double().mean().item(),
        coverage=_coverage(source, partner),
    )


def _by_reference_code(source: Tracks, generated: Tracks, generator: torch.Generator | None) -> MotionScore:
    shape, direction = reference_halves(source, generated, generator)
    return MotionScore(
        score=(0.5 * direction.mean() + 0.5 * shape.mean()).item(),
        shape=shape.mean().item(),
        direction=direction.mean().item(),
        per_track=direction,
        static_share=_static_share(source),
        compared=1.0,
        coverage=_coverage(source, generated),
    )

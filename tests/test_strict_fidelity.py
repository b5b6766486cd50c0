"""A score that cannot be fooled: what the source shows and the result does not counts against the result."""

import math

import numpy as np
import pytest
import torch
from some_motions import curved, direct_frechet, straight, with_points

from det_core.metrics import motion_fidelity
from det_core.tracking.tracks import Tracks

FRAMES = 49


def followed_then(points_after, right: int, seen: bool) -> tuple[Tracks, Tracks]:
    """A source of curved tracks that stay in view, and a video that follows it for `right` frames, then does what
    `points_after(points, right)` says, seen by the tracker or not."""
    source = curved(20, FRAMES, seed=5)
    points = source.points.clone()
    points[:, right:] = points_after(source.points, right)
    visible = torch.ones_like(source.visible)
    visible[:, right:] = seen
    return source, Tracks(points, visible)


def backwards(points: torch.Tensor, right: int) -> torch.Tensor:
    """From where it is, every step of the source the other way round."""
    steps = points[:, right:] - points[:, right - 1 : -1]
    return points[:, right - 1 : right] - steps.cumsum(1)


def noise(points: torch.Tensor, right: int) -> torch.Tensor:
    return torch.rand(points[:, right:].shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "lost"])
@pytest.mark.parametrize(("what", "right"), [(backwards, 3), (noise, 8)], ids=["3, then backwards", "8, then noise"])
def test_a_clip_that_follows_only_for_some_frames_scores_low(what, right, seen):
    source, fooling = followed_then(what, right, seen)
    found = motion_fidelity(source, fooling)
    assert found.score <= 0.35
    assert found.measured == seen
    assert found.coverage == pytest.approx(1.0 if seen else (right - 1) / (FRAMES - 1))
    if not seen:  # what the paper's metric says of it
        assert motion_fidelity(source, fooling, "hybrid").score > 0.99


def test_slow_motion_has_a_direction():
    slow = straight(16, FRAMES, span=0.18 * 48 / 720)  # 0.18 px a step at 720x480, all below the limit of motion
    away = slow.points[:, :1] - (slow.points - slow.points[:, :1])
    assert motion_fidelity(slow, slow).score == pytest.approx(1.0)
    assert motion_fidelity(slow, with_points(slow, away)).score <= 0.2
    assert motion_fidelity(slow, with_points(slow, away), "hybrid").score > 0.95, "the paper's metric takes it for rest"
    assert motion_fidelity(slow, with_points(slow, slow.points[:, :1].expand_as(slow.points))).direction == 0.0


def test_the_same_clip_scores_1_and_covers_all_that_the_source_shows():
    source = curved(20, FRAMES, seed=7)
    hidden = Tracks(source.points, torch.rand(20, FRAMES, generator=torch.Generator().manual_seed(1)) > 0.2)
    for tracks in (source, hidden):
        found = motion_fidelity(tracks, tracks)
        assert found.score == pytest.approx(1.0) and found.coverage == 1.0 and found.measured


def test_where_nothing_is_lost_and_nothing_slow_it_is_the_papers():
    source, other = straight(12, 17), straight(12, 17, seed=3)
    strict, hybrid = motion_fidelity(source, other), motion_fidelity(source, other, "hybrid")
    assert strict.score == pytest.approx(hybrid.score, abs=1e-9)
    assert strict.shape == pytest.approx(hybrid.shape, abs=1e-9)


def test_it_equals_a_direct_loop_with_hidden_frames():
    generator = torch.Generator().manual_seed(2)
    source, other = straight(7, 12, span=0.4), curved(7, 12, seed=6)
    source = Tracks(source.points, torch.rand(7, 12, generator=generator) > 0.2)
    other = Tracks(other.points, torch.rand(7, 12, generator=generator) > 0.3)
    p, q = source.points.double().numpy(), other.points.double().numpy()
    seen, shared = source.visible.numpy(), (source.visible & other.visible).numpy()
    nearness, each = [], []
    for n in range(7):
        frames = np.flatnonzero(shared[n])
        near = math.exp(-direct_frechet(tuple(map(tuple, p[n, frames])), tuple(map(tuple, q[n, frames]))))
        nearness.append(near)
        steps = np.flatnonzero(seen[n, 1:] & seen[n, :-1])
        kept = (shared[n, 1:] & shared[n, :-1])[steps]
        v, w = np.diff(p[n], axis=0)[steps], np.diff(q[n], axis=0)[steps]
        cosine = (v * w).sum(1) / (np.linalg.norm(v, axis=1) * np.linalg.norm(w, axis=1))
        each.append(np.mean((near + cosine) * kept) / 2)
    shape, direction, covered = [], [], []
    for t in range(11):
        there = [n for n in range(7) if seen[n, t] and seen[n, t + 1]]
        if not there:
            continue
        both = [bool(shared[n, t] and shared[n, t + 1]) for n in there]
        v, w = p[there, t + 1] - p[there, t], q[there, t + 1] - q[there, t]
        cosine = (v * w).sum(1) / (np.linalg.norm(v, axis=1) * np.linalg.norm(w, axis=1))
        shape.append(np.mean([nearness[n] * b for n, b in zip(there, both, strict=True)]))
        direction.append(np.mean(cosine * both))
        covered.append(np.mean(both))
    found = motion_fidelity(source, other)
    assert found.score == pytest.approx((found.shape + found.direction) / 2, abs=1e-9)
    assert found.shape == pytest.approx(np.mean(shape), abs=1e-6)
    assert found.direction == pytest.approx(np.mean(direction), abs=1e-6)
    assert found.coverage == pytest.approx(np.mean(covered), abs=1e-9)
    assert found.per_track.tolist() == pytest.approx(each, abs=1e-6)


def test_a_result_of_which_nothing_is_seen_scores_0_and_is_not_measured():
    source = curved(6, 10)
    nothing = Tracks(source.points, torch.zeros_like(source.visible))
    found = motion_fidelity(source, nothing)
    assert (found.score, found.coverage, found.measured) == (0.0, 0.0, False)
    with pytest.raises(ValueError, match="visible in two frames in a row"):
        motion_fidelity(Tracks(source.points, torch.arange(10).expand(6, 10) % 2 == 0), source)

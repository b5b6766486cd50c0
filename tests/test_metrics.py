"""Motion fidelity against direct computations, and the order of motions that any fidelity must keep."""

import math

import numpy as np
import pytest
import torch
from some_motions import curved, direct_frechet, straight, with_points

from det_core.metrics import frechet_distance, motion_fidelity
from det_core.tracking.tracks import Tracks

FLOOR = math.exp(-math.sqrt(2))  # no two points of one frame are further apart than its diagonal


def direct_hybrid(p, q, seen):
    """Shape and direction of one pair of tracks, by loops; None where no step is seen."""
    frames = [t for t in range(len(seen)) if seen[t]]
    counted = [t for t in range(len(seen) - 1) if seen[t] and seen[t + 1]]
    if not counted:
        return None
    shape = math.exp(-direct_frechet(tuple(map(tuple, p[frames])), tuple(map(tuple, q[frames]))))
    pixels = np.array([720.0, 480.0])
    cosines, rests = [], []
    for t in counted:
        v, w = p[t + 1] - p[t], q[t + 1] - q[t]
        rests.append(np.linalg.norm(w * pixels) < 0.25)
        if np.linalg.norm(v * pixels) >= 0.25:
            cosines.append(v @ w / max(np.linalg.norm(v) * np.linalg.norm(w), 1e-8))
    return shape, float(np.mean(cosines if cosines else rests))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (7, 1), (2, 3), (13, 13), (49, 17)])
def test_frechet_equals_the_recursive_definition(rows, columns):
    g = torch.Generator().manual_seed(rows * 100 + columns)
    a = torch.rand(5, rows, 2, generator=g, dtype=torch.float64)
    b = torch.rand(5, columns, 2, generator=g, dtype=torch.float64)
    expected = [
        direct_frechet(tuple(map(tuple, x.tolist())), tuple(map(tuple, y.tolist()))) for x, y in zip(a, b, strict=True)
    ]
    assert frechet_distance(a, b).tolist() == pytest.approx(expected, abs=1e-12)


def test_frechet_broadcasts_over_all_pairs():
    a, b = curved(4).points.double(), curved(3, seed=5).points.double()
    pairs = frechet_distance(a[:, None], b[None])
    assert pairs.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            assert pairs[i, j].item() == pytest.approx(frechet_distance(a[i], b[j]).item(), abs=1e-12)


def test_hybrid_equals_a_direct_loop_with_hidden_frames():
    g = torch.Generator().manual_seed(3)
    a, b = curved(11, 15, seed=2), curved(11, 15, seed=4)
    points = a.points.clone()
    points[3] = points[3, :1]  # a source track that never moves
    points[4, 5:9] = points[4, 5:6]  # one that pauses
    other = b.points.clone()
    other[4, 2:12] = other[4, 2:3]  # rests while the source moves
    other[3, 7:] = other[3, 7:8]
    seen_a, seen_b = (torch.rand(11, 15, generator=g) > 0.25 for _ in range(2))
    seen_b[5] = False  # nothing to compare
    source, generated = Tracks(points, seen_a), Tracks(other, seen_b)
    score = motion_fidelity(source, generated, "hybrid")
    pairs = [
        direct_hybrid(p, q, s)
        for p, q, s in zip(
            source.points.double().numpy(),
            generated.points.double().numpy(),
            (seen_a & seen_b).numpy(),
            strict=True,
        )
    ]
    known = [pair for pair in pairs if pair is not None]
    assert score.shape == pytest.approx(np.mean([s for s, _ in known]), abs=1e-9)
    assert score.direction == pytest.approx(np.mean([d for _, d in known]), abs=1e-9)
    assert float(score) == pytest.approx(0.5 * score.shape + 0.5 * score.direction, abs=1e-9)
    assert score.compared == pytest.approx(len(known) / 11)
    for value, pair in zip(score.per_track.tolist(), pairs, strict=True):
        assert math.isnan(value) if pair is None else value == pytest.approx(sum(pair) / 2, abs=1e-9)


@pytest.mark.parametrize("matching", ["index", "best"])
def test_motions_are_ordered_as_they_must_be(matching):
    source = straight()
    bent = source.points.clone()
    lag = source.points[:, [0, 0, 0, *range(14)]]  # starts three frames late
    slower = source.points[:, :1] + 0.5 * (source.points - source.points[:, :1])
    score = {
        "identical": motion_fidelity(source, with_points(source, bent), matching=matching).score,
        "late": motion_fidelity(source, with_points(source, lag), matching=matching).score,
        "half as far": motion_fidelity(source, with_points(source, slower), matching=matching).score,
        "static": motion_fidelity(
            source,
            with_points(source, source.points[:, :1].expand_as(source.points)),
            matching=matching,
        ).score,
        "reversed": motion_fidelity(source, with_points(source, source.points.flip(1)), matching=matching).score,
    }
    assert score["identical"] == pytest.approx(1.0, abs=1e-6)
    assert 1 > score["late"] > score["static"] + 0.2
    assert 1 > score["half as far"] > score["static"] + 0.2
    if matching == "index":
        assert score["static"] > score["reversed"]  # against the motion is worse than none
        assert score["static"] == pytest.approx(0.5 * math.exp(-0.3), abs=1e-5)  # no direction, and 0.3 away at the end
        assert score["reversed"] == pytest.approx(0.5 * math.exp(-0.3) - 0.5, abs=1e-5)
    else:
        assert score["identical"] > score["reversed"]


def test_scores_stay_in_range_for_unrelated_motion():
    for seed in range(4):
        score = motion_fidelity(curved(seed=seed), curved(seed=seed + 10))
        assert FLOOR <= score.shape <= 1 and -1 <= score.direction <= 1


def test_static_steps_of_the_source_have_no_direction():
    source = straight(count=4, frames=9)
    points = source.points.clone()
    points[:, 4:] = points[:, 4:5]  # stops halfway
    wander = points.clone()
    wander[:, 5:] += 0.01 * torch.randn(4, 4, 2, generator=torch.Generator().manual_seed(0))
    score = motion_fidelity(with_points(source, points), with_points(source, wander))
    assert score.direction == pytest.approx(1.0, abs=1e-6)
    assert score.static_share == pytest.approx(0.5)


@pytest.mark.parametrize(("pixels", "share"), [(0.24, 1.0), (0.26, 0.0)])
def test_the_threshold_of_motion_is_a_quarter_pixel_at_720x480(pixels, share):
    for axis, size in ((0, 720), (1, 480)):
        points = torch.full((1, 5, 2), 0.5)
        points[0, :, axis] += torch.arange(5) * pixels / size
        tracks = Tracks(points, torch.ones(1, 5, dtype=torch.bool))
        assert motion_fidelity(tracks, tracks).static_share == share


def test_a_resting_source_scores_rest():
    still = Tracks(torch.full((3, 6, 2), 0.4), torch.ones(3, 6, dtype=torch.bool))
    assert motion_fidelity(still, still).score == pytest.approx(1.0)
    moved = with_points(still, still.points + torch.linspace(0, 0.2, 6)[None, :, None])
    assert motion_fidelity(still, moved).direction == 0.0


def test_hidden_frames_count_in_neither_half():
    source, generated = curved(6), curved(6)
    visible = torch.ones(6, 21, dtype=torch.bool)
    visible[:, 8:11] = False
    jumps = generated.points.clone()
    jumps[:, 8:11] = 9.0
    assert motion_fidelity(source, Tracks(jumps, visible), "hybrid").score == pytest.approx(1.0, abs=1e-9)


def test_best_match_ignores_order_and_punishes_copies():
    source = straight(count=10)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = Tracks(source.points[order], source.visible[order])
    assert motion_fidelity(source, shuffled, matching="best").score == pytest.approx(1.0, abs=1e-6)
    assert motion_fidelity(source, shuffled, matching="index").score < 0.9
    copies = Tracks(source.points[:1].expand(4, -1, -1), source.visible[:4])
    score = motion_fidelity(source, copies, matching="best")  # other counts are fine
    assert score.per_track.tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    assert score.score < 0.95


def test_best_match_equals_a_direct_search():
    g = torch.Generator().manual_seed(8)
    source = Tracks(curved(7, 12, seed=6).points, torch.rand(7, 12, generator=g) > 0.3)
    generated = Tracks(curved(5, 12, seed=7).points, torch.rand(5, 12, generator=g) > 0.3)
    table, together = {}, {}
    for i in range(7):
        for j in range(5):
            seen = (source.visible[i] & generated.visible[j]).numpy()
            pair = direct_hybrid(
                source.points[i].double().numpy(),
                generated.points[j].double().numpy(),
                seen,
            )
            table[i, j], together[i, j] = (
                None if pair is None else sum(pair) / 2,
                seen.sum(),
            )

    def best(own, pairs):
        allowed = [table[p] for p in pairs if table[p] is not None and together[p] >= 0.5 * own]
        return max(allowed) if allowed else float("nan")

    by_generated = [best(generated.visible[j].sum().item(), [(i, j) for i in range(7)]) for j in range(5)]
    by_source = [best(source.visible[i].sum().item(), [(i, j) for j in range(5)]) for i in range(7)]
    score = motion_fidelity(source, generated, "hybrid", matching="best")
    assert score.score == pytest.approx((np.nanmean(by_generated) + np.nanmean(by_source)) / 2, abs=1e-9)
    assert score.per_track.tolist() == pytest.approx(by_generated, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("count", [1, 3])
def test_scores_of_few_tracks_and_two_frames(count):
    tracks = straight(count=count, frames=2)
    for matching in ("index", "best"):
        assert motion_fidelity(tracks, tracks, matching=matching).score == pytest.approx(1.0, abs=1e-6)
    assert motion_fidelity(tracks, tracks, "reference_code").direction == pytest.approx(1.0, abs=1e-6)


def test_errors_say_what_to_do():
    tracks, hidden = (
        curved(),
        Tracks(curved().points, torch.zeros(9, 21, dtype=torch.bool)),
    )
    with pytest.raises(ValueError, match="21 frames and the generated tracks 20.*resample"):
        motion_fidelity(tracks, Tracks(tracks.points[:, :20], tracks.visible[:, :20]))
    with pytest.raises(ValueError, match="20 frames and the generated tracks 21.*resample"):
        motion_fidelity(Tracks(tracks.points[:, :20], tracks.visible[:, :20]), tracks)
    with pytest.raises(ValueError, match="9 tracks and the generated video 4.*best"):
        motion_fidelity(tracks, Tracks(tracks.points[:4], tracks.visible[:4]))
    with pytest.raises(ValueError, match="source tracks is visible in any frame"):
        motion_fidelity(hidden, tracks)
    with pytest.raises(ValueError, match="generated tracks is visible in any frame"):
        motion_fidelity(tracks, hidden, "hybrid")
    odd = torch.arange(21) % 2 == 0
    alternate = [Tracks(tracks.points, pattern.expand(9, 21)) for pattern in (odd, ~odd)]
    for matching in ("index", "best"):
        with pytest.raises(ValueError, match="no track is visible in both videos"):
            motion_fidelity(*alternate, "hybrid", matching=matching)
    with pytest.raises(ValueError, match="'paper' is unknown"):
        motion_fidelity(tracks, tracks, "paper")
    with pytest.raises(ValueError, match="'nearest' is unknown"):
        motion_fidelity(tracks, tracks, matching="nearest")
    with pytest.raises(ValueError, match="at least 2 frames"):
        motion_fidelity(*[Tracks(tracks.points[:, :1], tracks.visible[:, :1])] * 2)


def test_tracks_of_two_trackers_are_compared_with_a_warning(caplog):
    points, visible = curved().points, curved().visible
    motion_fidelity(Tracks(points, visible, "dis"), Tracks(points, visible, "cotracker"))
    assert "dis" in caplog.text and "cotracker" in caplog.text


def test_real_tracks_separate_the_same_clip_from_another(shared_data):
    dance, dog = (
        Tracks.load(shared_data / "mtbench" / name / "trajectories.npz") for name in ("dance-twirl", "dog-agility")
    )
    some = torch.arange(0, 100, 4)
    dance, dog = (Tracks(t.points[some], t.visible[some]) for t in (dance, dog))
    assert motion_fidelity(dance, dance, matching="best").score == pytest.approx(1.0, abs=1e-6)
    still = with_points(dance, dance.points[:, 1:2].expand_as(dance.points))
    assert motion_fidelity(dance, dog, matching="best").score < 0.8
    assert motion_fidelity(dance, still, matching="best").score < 0.6

import pytest
import torch

from det_core.metrics.tapvid import tapvid_score
from det_core.tracking.tracks import Tracks


def by_hand(predicted, reference, frames):
    """The definitions, pair by pair."""
    deltas, jaccards, right, pairs = [], [], 0, 0
    for threshold in (1, 2, 4, 8, 16):
        near_count = visible_count = hits = false_alarms = 0
        for n in range(len(reference)):
            for t in frames:
                dx, dy = (float(v) * 256 for v in predicted.points[n, t].double() - reference.points[n, t].double())
                near = (dx * dx + dy * dy) ** 0.5 < threshold
                truth, guess = bool(reference.visible[n, t]), bool(predicted.visible[n, t])
                visible_count += truth
                near_count += truth and near
                hits += truth and guess and near
                false_alarms += guess and not (truth and near)
                if threshold == 1:
                    pairs += 1
                    right += truth == guess
        deltas.append(near_count / visible_count)
        jaccards.append(hits / (visible_count + false_alarms))
    return sum(deltas) / 5, sum(jaccards) / 5, right / pairs


@pytest.mark.parametrize(
    ("count", "frames", "query_frame", "first"), [(7, 11, 0, True), (1, 3, 1, True), (13, 5, 2, False)]
)
def test_equals_the_definition(count, frames, query_frame, first):
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(count, frames, 2, generator=generator)
    visible = torch.rand(count, frames, generator=generator) > 0.3
    visible[0, -1] = True
    noise = torch.randn(count, frames, 2, generator=generator) * 0.02
    reference = Tracks(points, visible)
    predicted = Tracks(points + noise, visible ^ (torch.rand(count, frames, generator=generator) > 0.8))
    score = tapvid_score(predicted, reference, query_frame, first)
    scored = range(query_frame + 1, frames) if first else [t for t in range(frames) if t != query_frame]
    delta, jaccard, accuracy = by_hand(predicted, reference, scored)
    assert score.delta_avg == pytest.approx(delta)
    assert score.average_jaccard == pytest.approx(jaccard)
    assert score.occlusion_accuracy == pytest.approx(accuracy)


def test_perfect_and_hopeless():
    reference = Tracks(torch.rand(4, 6, 2), torch.ones(4, 6))
    best = tapvid_score(reference, reference)
    assert (best.delta_avg, best.average_jaccard, best.occlusion_accuracy) == (1, 1, 1)
    worst = tapvid_score(Tracks(reference.points + 1, torch.zeros(4, 6)), reference)
    assert (worst.delta_avg, worst.average_jaccard, worst.occlusion_accuracy) == (0, 0, 0)


def test_refuses_what_cannot_be_scored():
    tracks = Tracks(torch.rand(4, 6, 2), torch.ones(4, 6))
    with pytest.raises(ValueError, match="4 tracks of 5 frames with 4 of 6"):
        tapvid_score(Tracks(tracks.points[:, :5], tracks.visible[:, :5]), tracks)
    with pytest.raises(ValueError, match="no frame is left"):
        tapvid_score(tracks, tracks, query_frame=5)
    with pytest.raises(ValueError, match="never|nothing to score"):
        tapvid_score(tracks, Tracks(tracks.points, torch.zeros(4, 6)))

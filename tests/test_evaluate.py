"""`evaluate` compares a result with the frames that it was learned from, and says what it cannot measure."""

import json
import math

import pytest
import torch
from field_job import run
from some_motions import on_a_disc

from det_core.measure import evaluate_files
from det_core.metrics import matching_of
from det_core.tracking.trackers import track_again
from det_core.tracking.tracks import Tracks


def circling(frames: int, points: int = 6) -> Tracks:
    """Points that go round twice in `frames`."""
    angle = torch.linspace(0, 4 * math.pi, frames)
    path = torch.stack([0.5 + 0.2 * angle.cos(), 0.5 + 0.2 * angle.sin()], -1)
    return Tracks(path + 0.02 * torch.arange(points)[:, None, None], torch.ones(points, frames))


def scores_of(tmp_path, source: Tracks, generated: Tracks, **told):
    paths = [tmp_path / "source.npz", tmp_path / "generated.npz"]
    source.save(paths[0]), generated.save(paths[1])
    return evaluate_files(*paths, **told)


@pytest.mark.parametrize("available", [49, 60, 97, 120])
def test_a_perfect_transfer_of_a_longer_source_scores_one(tmp_path, available):
    source = circling(available)
    stride = available // 49  # as the paper's code takes frames, and a training with it
    learned = source.at(list(range(0, 49 * stride, stride)))
    assert scores_of(tmp_path, source, learned)["motion_fidelity"] == pytest.approx(1.0, abs=1e-4)


def test_thinned_as_the_training_was_told(tmp_path):
    source = circling(98)
    thin = source.at(list(range(0, 97, 2)))
    assert scores_of(tmp_path, source, thin, longer="thin")["motion_fidelity"] == pytest.approx(1.0, abs=1e-4)
    assert scores_of(tmp_path, source, thin, longer="cut")["motion_fidelity"] < 0.7


def test_a_shorter_source_spans_the_same_time(tmp_path):
    assert scores_of(tmp_path, circling(49), circling(97))["motion_fidelity"] > 0.95


def test_of_what_cannot_be_compared_the_other_scores_stay(tmp_path):
    unseen = Tracks(circling(49).points, torch.zeros(6, 49))
    found = scores_of(tmp_path, circling(49), unseen, prompt="a star")
    assert (found["motion_fidelity"], found["coverage"]) == (0.0, 0.0) or "motion_fidelity" in found["not_measured"]
    assert found["motion_fidelity_reference_code"] is None
    assert found["not_measured"]["edit_fidelity"] == "needs --clip and a generated video"
    assert found["not_measured"]["temporal_consistency"] == "needs --dino and a generated video"


def test_what_makes_no_sense_is_refused(tmp_path, capsys):
    scores_of(tmp_path, circling(49), circling(49))
    words = ["evaluate", "--source", tmp_path / "source.npz", "--generated", tmp_path / "generated.npz"]
    for more, message in (
        (["--fps", 0], "give it as a number"),
        (["--fps", 8], "holds tracks, which have no rate"),
        (["--mask", tmp_path / "mask.png"], "--source holds tracks"),
    ):
        assert run(*words, *more) == 1
        assert message in capsys.readouterr().err
    assert run(*words, "--longer", "thin") == 0
    assert json.loads(capsys.readouterr().out)["motion_fidelity"] == pytest.approx(1.0)


def test_only_the_same_points_are_compared_one_by_one(tmp_path):
    """As many points are not the same points: of two choices on one disc, track n has nothing to do with track n."""
    one, other = on_a_disc(seed=0), on_a_disc(seed=1)
    found = scores_of(tmp_path, one, other)
    assert found["matching"] == "best" and found["motion_fidelity"] > 0.95
    found = scores_of(tmp_path, one, one)
    assert found["matching"] == "index" and found["motion_fidelity"] == pytest.approx(1.0)
    late = torch.arange(len(one)) % 20
    assert matching_of(Tracks(one.points, one.visible, "", late), one) == "best", "chosen in other frames"
    assert matching_of(one, one.only(torch.arange(len(one)) > 0)) == "best"


@pytest.mark.parametrize("frames", [20, 33])
def test_points_tracked_again_are_the_same_points(frames):
    asked = torch.tensor([0, 0, 7, 16, 19])
    points = torch.rand(5, 20, 2, generator=torch.Generator().manual_seed(0))
    source = Tracks(points, torch.ones(5, 20), "lk", asked)
    video = torch.rand(frames, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    again = track_again(video, source, tracker="lk")
    assert matching_of(source.resample(frames), again) == "index"

"""Evaluate Motion: a score where there is something to compare, and "not measured" where there is not."""

from __future__ import annotations

import math

import pytest
import torch


@pytest.fixture(params=["strict", "hybrid"])
def variant(request):
    return request.param


@pytest.fixture
def evaluate(pack, variant):
    """(source, generated) -> (score, report) of the node."""
    from det_pack.nodes.evaluate import DeTEvaluateMotion

    def run(source, generated):
        score, plot, report = DeTEvaluateMotion.execute(source, generated, variant).args
        assert plot.ndim == 4 and plot.shape[-1] == 3
        return score, report

    return run


def tracks(visible: bool = True, **extra) -> dict:
    steps = torch.linspace(8, 40, 9)[:, None].expand(9, 4)
    path = torch.stack([steps, steps + torch.arange(4)], dim=-1)
    return {
        "track_path": path,
        "track_visibility": torch.full((9, 4), visible),
        "width": 64,
        "height": 64,
        **extra,
    }


def clip(motion: str = "loop") -> torch.Tensor:
    from det_core.models.embedded.corpus import Scene, make_clip

    return make_clip(Scene("red", "circle", "navy", "plain"), motion, torch.Generator().manual_seed(29)).frames


def test_the_same_motion_scores_one(evaluate, variant):
    score, report = evaluate(tracks(), tracks())
    assert score == pytest.approx(1) and report.startswith(f"motion fidelity ({variant}): 1.000\nshape 1.000")
    assert "coverage 1.00" in report
    assert evaluate(clip(), clip())[0] == pytest.approx(1, abs=1e-3)


def test_another_motion_scores_less(evaluate):
    assert evaluate(clip("loop"), clip("zigzag"))[0] < 0.7


@pytest.mark.parametrize("generated", ["no sprite", "hidden tracks"])
def test_nothing_to_compare_is_not_measured(evaluate, variant, generated):
    empty = torch.full((9, 64, 64, 3), 0.5) if generated == "no sprite" else tracks(visible=False)
    source = clip() if generated == "no sprite" else tracks()
    score, report = evaluate(source, empty)
    assert math.isnan(score)
    assert report.startswith(f"motion fidelity ({variant}): not measured\n")
    assert "visible" in report or "are seen" in report


def test_of_lengths_that_differ_the_common_frames_are_compared(evaluate):
    score, report = evaluate(clip(), clip()[:8])
    assert score == pytest.approx(1, abs=1e-3)
    assert "the source has 9 frames and the generated video 8: the first 8 of both were compared" in report


def test_a_video_that_follows_for_three_frames_and_is_lost_is_not_measured_or_not_trusted(evaluate, variant):
    lost = tracks()
    lost["track_visibility"][3:] = False
    score, report = evaluate(tracks(), lost)
    assert "only 25% of the source's steps are seen" in report
    assert math.isnan(score) if variant == "strict" else "not to be trusted" in report


def test_the_report_names_which_tracks_were_compared(evaluate, variant):
    from some_motions import on_a_disc

    one, other = ({**on_a_disc(seed).to_comfy(64, 64), "width": 64, "height": 64} for seed in (0, 1))
    score, report = evaluate(one, other)
    assert score > 0.95 and "each with the track that fits it best" in report
    score, report = evaluate(one, one)
    assert score == pytest.approx(1) and "the same points of both" in report
    assert "the same points of both" in evaluate(clip(), clip("zigzag"))[1], "tracked again from the source's points"


def test_subject_and_camera_are_told_apart_of_the_same_points_alone(evaluate):
    from some_motions import on_a_disc

    one, other = ({**on_a_disc(seed).to_comfy(64, 64), "width": 64, "height": 64} for seed in (0, 1))
    one["still"] = torch.arange(100) >= 50
    assert "camera:" in evaluate(one, one)[1] and "camera:" not in evaluate(one, other)[1]

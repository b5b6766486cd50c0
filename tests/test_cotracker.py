"""CoTracker through its own code: the numbers it is given and gives, and weights that are none."""

import logging
import os
import sys

import pytest
import torch
from panning import grid_points, panning_video

from det_core.tracking.trackers import resolve_tracker, track

pytestmark = pytest.mark.usefixtures("no_cotracker")


def test_missing_cotracker_says_what_and_names_the_licence(monkeypatch, tmp_path, caplog):
    with pytest.raises(ValueError, match="code is not installed.*COTRACKER_PATH.*CC-BY-NC"):
        resolve_tracker("cotracker")
    with pytest.raises(ValueError, match="is no checkout of facebookresearch/co-tracker"):
        resolve_tracker("cotracker", checkout=tmp_path)
    fake_checkout(tmp_path)
    with pytest.raises(ValueError, match="weights were not found.*COTRACKER_WEIGHTS.*CC-BY-NC"):
        resolve_tracker("cotracker", checkout=tmp_path)
    with pytest.raises(ValueError, match="no weights at nowhere.pth"):
        resolve_tracker("cotracker", checkout=tmp_path, weights="nowhere.pth")
    with caplog.at_level(logging.WARNING):
        assert resolve_tracker("auto", checkout=tmp_path, weights="nowhere.pth") == "dis"
    assert "no weights at nowhere.pth" in caplog.text


FAKE = """
import torch

calls = []

class CoTrackerPredictor(torch.nn.Module):
    def __init__(self, checkpoint, offline, window_len):
        super().__init__()
        assert checkpoint is None
        self.model = torch.nn.Linear(2, 2)
        self.kind = (offline, window_len)

    def forward(self, video, queries, backward_tracking):
        '''Every point moves by (3, -2) px a frame from its query; odd points are hidden after it.'''
        calls.append((self.kind, video, queries, backward_tracking))
        time = torch.arange(video.shape[1])[None, :, None] - queries[:, None, :, 0]
        tracks = queries[:, None, :, 1:] + time[..., None] * torch.tensor([3.0, -2.0])
        odd = torch.arange(queries.shape[1]) % 2 == 1
        return tracks, ~(odd[None, None] & (time > 0))
"""


def fake_checkout(folder, name="scaled_offline.pth", weights=None):
    package = folder / "cotracker"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "predictor.py").write_text(FAKE)
    if weights is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
        torch.save(weights, folder / "checkpoints" / name)
    return folder


@pytest.mark.parametrize(
    ("name", "query_frame", "wrapped", "kind"),
    [("scaled_offline.pth", 0, False, (True, 60)), ("scaled_online.pth", 2, True, (False, 16))],
)
def test_cotracker_gets_and_gives_the_right_numbers(tmp_path, monkeypatch, caplog, name, query_frame, wrapped, kind):
    state = torch.nn.Linear(2, 2).state_dict()
    fake_checkout(tmp_path, name, {"model": state} if wrapped else state)
    monkeypatch.setenv("COTRACKER_PATH", str(tmp_path))
    video = torch.rand(5, 30, 50, 3)
    queries = torch.tensor([[0.5 / 50, 0.5 / 30], [0.5, 0.25], [0.3, 0.9]])
    with caplog.at_level(logging.INFO):
        result = track(video, queries.double(), query_frame=query_frame)
    from cotracker.predictor import calls  # the fake one

    ((got_kind, got_video, got_queries, backward),) = calls
    assert got_kind == kind and backward is (query_frame > 0)
    assert got_video.shape == (1, 5, 3, 30, 50) and got_video.dtype == torch.float32
    assert torch.allclose(got_video[0].permute(0, 2, 3, 1), (video * 255).round())
    assert got_queries.dtype == torch.float32
    assert torch.allclose(got_queries[0, 0], torch.tensor([float(query_frame), 0.0, 0.0]), atol=1e-5)  # first pixel
    assert torch.allclose(got_queries[0, 1], torch.tensor([float(query_frame), 24.5, 7.0]))
    time = torch.arange(5) - query_frame
    truth = queries[:, None] + time[None, :, None] * torch.tensor([3.0 / 50, -2.0 / 30])
    assert torch.allclose(result.points, truth, atol=1e-6)
    assert torch.equal(result.visible[1], time <= 0) and result.visible[0].all() and result.visible[2].all()
    assert result.tracker == "cotracker"
    assert "CC-BY-NC" in caplog.text and name in caplog.text
    assert str(tmp_path) not in sys.path


def test_cotracker_gets_a_frame_for_each_point(tmp_path):
    fake_checkout(tmp_path, weights=torch.nn.Linear(2, 2).state_dict())
    asked = torch.tensor([0, 3, 1])
    result = track(
        torch.zeros(5, 16, 16, 3), torch.rand(3, 2), tracker="cotracker", checkout=tmp_path, query_frame=asked
    )
    from cotracker.predictor import calls  # the fake one

    ((_, _, queries, backward),) = calls
    assert queries[0, :, 0].tolist() == [0, 3, 1] and backward is True
    assert torch.equal(result.query_frames, asked)


def test_cotracker_passes_many_queries_in_parts(tmp_path):
    fake_checkout(tmp_path, weights=torch.nn.Linear(2, 2).state_dict())
    queries = torch.rand(600, 2)
    result = track(torch.zeros(2, 16, 16, 3), queries, tracker="cotracker", checkout=tmp_path)
    from cotracker.predictor import calls  # the fake one

    assert [call[2].shape[1] for call in calls] == [256, 256, 88]
    assert torch.allclose(result.points[:, 0], queries, atol=1e-6)


@pytest.mark.parametrize("content", ["truncated", "other"])
def test_cotracker_refuses_weights_that_are_none(tmp_path, content):
    fake_checkout(tmp_path, weights=torch.nn.Linear(3, 3).state_dict())
    weights = tmp_path / "checkpoints" / "scaled_offline.pth"
    if content == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="scaled_offline.pth holds no CoTracker3 weights") as caught:
        track(torch.zeros(2, 16, 16, 3), grid_points(), tracker="cotracker", checkout=tmp_path)
    assert "\n" not in str(caught.value)


REAL_CODE = os.environ.get("COTRACKER_PATH")


@pytest.mark.skipif(
    not REAL_CODE, reason="NO COTRACKER CODE: set COTRACKER_PATH to test its wiring with random weights"
)
@pytest.mark.parametrize(("name", "query_frame"), [("scaled_offline.pth", 1), ("scaled_online.pth", 0)])
def test_real_cotracker_code_with_random_weights(tmp_path, monkeypatch, name, query_frame):
    monkeypatch.setenv("COTRACKER_PATH", REAL_CODE)
    monkeypatch.syspath_prepend(REAL_CODE)
    from cotracker.models.build_cotracker import build_cotracker

    torch.manual_seed(0)
    online = "online" in name
    torch.save(build_cotracker(offline=not online, window_len=16 if online else 60).state_dict(), tmp_path / name)
    queries = grid_points(side=2)
    result = track(
        panning_video(48, 64, (1, 0), 4), queries, tracker="cotracker", weights=tmp_path / name, query_frame=query_frame
    )
    assert result.points.shape == (4, 4, 2)
    assert torch.allclose(result.points[:, query_frame], queries, atol=1e-4)  # CoTracker writes queries back
    assert result.visible[:, query_frame].all()

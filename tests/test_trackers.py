import logging
import os
import sys

import pytest
import torch
import torch.nn.functional as F

from det_core.media.video import read_video
from det_core.metrics.tapvid import tapvid_score
from det_core.tracking.trackers import resolve_tracker, track
from det_core.tracking.trackers.chain import chain
from det_core.tracking.tracks import Tracks

WITHOUT_WEIGHTS = ["dis", "lk"]


@pytest.fixture(autouse=True)
def no_cotracker(monkeypatch, tmp_path):
    """Whatever this machine has installed, a test meets the CoTracker it made itself, or none."""
    for name in ("COTRACKER_PATH", "COTRACKER_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no hub"))
    forget_cotracker()
    yield
    forget_cotracker()


def forget_cotracker():
    for name in [name for name in sys.modules if name.split(".")[0] == "cotracker"]:
        del sys.modules[name]


def texture(height, width, seed=0):
    """A smooth random picture (H, W, 3) in [0, 1]."""
    noise = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)


def panning_video(height, width, velocity, frames, dtype=torch.float32):
    """A window that moves over a still picture: every point of it moves by -velocity px a frame."""
    margin = 40
    picture = texture(height + 2 * margin, width + 2 * margin)
    result = []
    for t in range(frames):
        x, y = (margin + velocity[0] * t, margin + velocity[1] * t)
        result.append(picture[y : y + height, x : x + width])
    video = torch.stack(result)
    return (video * 255).round().to(torch.uint8) if dtype == torch.uint8 else video.to(dtype)


def grid_points(low=0.3, high=0.7, side=4):
    axis = torch.linspace(low, high, side)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)


@pytest.mark.parametrize("tracker", WITHOUT_WEIGHTS)
@pytest.mark.parametrize(
    ("height", "width", "dtype", "query_frame"),
    [(120, 160, torch.uint8, 0), (97, 65, torch.float32, 2), (64, 64, torch.float64, 4), (48, 201, torch.uint8, 1)],
)
def test_follows_a_known_motion(tracker, height, width, dtype, query_frame):
    velocity, frames = (2, -1), 5
    video, queries = panning_video(height, width, velocity, frames, dtype), grid_points()
    result = track(video, queries, tracker=tracker, query_frame=query_frame)
    time = torch.arange(frames) - query_frame
    step = -torch.tensor(velocity) / torch.tensor([width, height])
    truth = queries[:, None] + time[None, :, None] * step
    error_px = ((result.points - truth) * torch.tensor([width, height])).norm(dim=-1)
    assert result.points.shape == (16, frames, 2) and result.tracker == tracker
    assert torch.allclose(result.points[:, query_frame], queries, atol=1e-6)
    assert result.visible.float().mean() > 0.95
    assert error_px[result.visible].max() < 0.35


@pytest.mark.parametrize("tracker", WITHOUT_WEIGHTS)
def test_a_point_that_leaves_stays_hidden(tracker):
    video = panning_video(96, 128, (4, 0), 10)
    video = torch.cat([video, video.flip(0)[1:]])  # the picture comes back
    queries = torch.tensor([[10 / 128, 0.5], [100 / 128, 0.5]])
    visible = track(video, queries, tracker=tracker).visible
    assert visible[0, :2].all() and not visible[0, 4:].any()
    assert visible[1, :10].all()


@pytest.mark.parametrize("tracker", WITHOUT_WEIGHTS)
def test_a_covered_point_is_hidden(tracker):
    """A textured board slides over the first point, from left to right, and away."""
    video, board = panning_video(96, 128, (0, 0), 12), texture(60, 48, seed=9)
    for t in range(12):
        left = 14 * t - 48
        columns = slice(max(left, 0), min(left + 48, 128))
        if columns.start < columns.stop:
            video[t, 18:78, columns] = board[:, columns.start - left : columns.stop - left]
    visible = track(video, torch.tensor([[0.5, 0.5], [0.5, 0.95]]), tracker=tracker).visible
    assert visible[0, :5].all() and not visible[0, 7:].any()  # its edge reaches the point between frames 4 and 5
    assert visible[1].all()


def constant_step(velocity, errors=None):
    def step(frame, next_frame, points):
        error = torch.zeros(len(points)) if errors is None else errors[max(frame, next_frame)].clone()
        return points + torch.tensor(velocity) * (next_frame - frame), error

    return step


def test_chain_runs_both_ways_from_the_query_frame():
    queries = torch.tensor([[100.0, 100.0]])
    points, visible = chain(constant_step([3.0, -2.0]), queries, 7, 2, (480, 720))
    time = torch.arange(7.0) - 2
    assert torch.allclose(points[0], torch.tensor([100.0, 100.0]) + time[:, None] * torch.tensor([3.0, -2.0]))
    assert visible.all()


def test_chain_hides_when_errors_add_up():
    """Errors of 1.9 px a step stay below 6 px in sum for three steps, in a picture of 720x480; never shown again."""
    errors = torch.full((8, 1), 1.9)
    errors[5:] = 0
    _, visible = chain(constant_step([0.0, 0.0], errors), torch.tensor([[100.0, 100.0]]), 8, 0, (480, 720))
    assert visible[0].tolist() == [True, True, True, True, False, False, False, False]
    _, visible = chain(constant_step([0.0, 0.0], errors), torch.tensor([[100.0, 100.0]]), 8, 0, (960, 1440))
    assert visible.all()  # the limit grows with the picture


def test_chain_asks_the_neighbours_for_a_bad_step():
    """One point of ten jumps wildly with an error above 2 px: it must take the median motion of the eight nearest."""
    queries = torch.tensor([[float(10 * i), 50.0] for i in range(10)]) + 200
    velocity = torch.tensor([[float(i), 0.0] for i in range(10)])
    velocity[0] = torch.tensor([300.0, 300.0])

    def step(frame, next_frame, points):
        error = torch.zeros(10)
        error[0] = 2.5
        return points + velocity, error

    points, visible = chain(step, queries, 2, 0, (480, 720))
    assert torch.allclose(points[0, 1] - queries[0], torch.tensor([4.5, 0.0]))  # median of 1..8
    assert torch.allclose(points[1:, 1] - queries[1:], velocity[1:])
    assert visible.all()


def test_chain_keeps_a_bad_step_without_enough_neighbours():
    errors = torch.tensor([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    points, _ = chain(constant_step([7.0, 0.0], errors), torch.full((3, 2), 100.0), 2, 0, (480, 720))
    assert torch.allclose(points[:, 1, 0], torch.tensor(107.0))


@pytest.mark.parametrize(
    ("frames", "queries", "query_frame", "message"),
    [
        (torch.zeros(4, 8, 8), torch.zeros(1, 2), 0, r"\(frames, height, width, 3\), got \(4, 8, 8\)"),
        (torch.zeros(4, 3, 8, 8), torch.zeros(1, 2), 0, "got"),
        (torch.zeros(0, 8, 8, 3), torch.zeros(1, 2), 0, "got"),
        (torch.zeros(4, 8, 8, 3), torch.zeros(0, 2), 0, "at least one"),
        (torch.zeros(4, 8, 8, 3), torch.zeros(2, 3), 0, r"got \(2, 3\)"),
        (torch.zeros(4, 8, 8, 3), torch.full((1, 2), float("nan")), 0, "NaN"),
        (torch.zeros(4, 8, 8, 3), torch.zeros(1, 2), 4, "frames 0 to 3"),
        (torch.zeros(4, 8, 8, 3), torch.zeros(1, 2), -1, "frames 0 to 3"),
    ],
)
def test_refuses_bad_input(frames, queries, query_frame, message):
    with pytest.raises(ValueError, match=message):
        track(frames, queries, query_frame=query_frame, tracker="lk")


def test_auto_takes_dis_then_lk(monkeypatch, caplog):
    assert resolve_tracker("auto") == "dis"
    monkeypatch.setitem(sys.modules, "cv2", None)  # importing it fails
    assert resolve_tracker("auto") == "lk"
    with pytest.raises(ValueError, match="needs OpenCV"):
        resolve_tracker("dis")
    with pytest.raises(ValueError, match="no tracker 'raft': choose one of auto, cotracker, dis, lk"):
        resolve_tracker("raft")
    with caplog.at_level(logging.INFO):
        assert track(panning_video(48, 48, (0, 0), 2), grid_points(), tracker="auto").tracker == "lk"
    assert "with lk" in caplog.text


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


@pytest.mark.parametrize(
    ("clip", "delta", "jaccard", "occlusion"), [("dance-twirl", 0.65, 0.44, 0.84), ("dog-agility", 0.55, 0.33, 0.77)]
)
def test_dis_on_real_clips(shared_data, clip, delta, jaccard, occlusion):
    """Against CoTracker3's tracks, queried at frame 1, where those are exact."""
    folder = shared_data / "mtbench" / clip
    reference = Tracks.load(folder / "trajectories.npz")
    frames = read_video(folder / f"{clip}.mp4").frames
    score = tapvid_score(track(frames, reference.points[:, 1], tracker="dis", query_frame=1), reference, query_frame=1)
    assert score.delta_avg >= delta
    assert score.average_jaccard >= jaccard
    assert score.occlusion_accuracy >= occlusion

import logging

import pytest
import torch
from panning import grid_points, panning_video, texture

from det_core.media.video import read_video
from det_core.metrics.tapvid import tapvid_score
from det_core.tracking.trackers import resolve_tracker, track, track_again
from det_core.tracking.trackers.chain import chain
from det_core.tracking.tracks import Tracks

pytestmark = pytest.mark.usefixtures("no_cotracker")

WITHOUT_WEIGHTS = ["dis", "lk"]


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
def test_points_of_several_frames_are_tracked_as_each_alone(tracker):
    video, queries = panning_video(96, 128, (2, -1), 8), grid_points(side=2)
    asked = torch.tensor([5, 0, 5, 2])
    together = track(video, queries, tracker=tracker, query_frame=asked)
    assert torch.equal(together.query_frames, asked)
    for frame in (0, 2, 5):
        some = asked == frame
        alone = track(video, queries[some], tracker=tracker, query_frame=frame)
        assert torch.allclose(together.points[some], alone.points, atol=1e-5)
        assert torch.equal(together.visible[some], alone.visible)


def test_the_same_points_are_asked_for_in_another_video():
    video = panning_video(96, 128, (2, -1), 8)
    source = track(video, grid_points(side=2), tracker="dis", query_frame=torch.tensor([0, 7, 3, 0]))
    again = track_again(video, source, tracker="dis")
    assert torch.allclose(again.points, source.points, atol=1e-6) and torch.equal(
        again.query_frames, source.query_frames
    )
    shorter = track_again(video[::7], source, tracker="dis")
    assert shorter.frames == 2 and shorter.query_frames.tolist() == [0, 1, 0, 0]


def test_nothing_survives_a_cut():
    """From one meadow to another: where there is nothing to see, a point alone looks the same after the cut."""
    before, after = panning_video(96, 128, (1, 0), 5), texture(96, 128, seed=7).expand(5, -1, -1, -1).clone()
    for video in (before, after):
        video[:, 60:, :40] = 0.5
    queries = torch.tensor([[0.1, 0.8], [0.5, 0.5]])
    assert track(before, queries, tracker="dis").visible.all()
    visible = track(torch.cat([before, after]), queries, tracker="dis").visible
    assert visible[:, :5].all() and not visible[:, 5:].any()


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


def test_auto_takes_dis_and_lk_is_still_a_name(caplog):
    assert resolve_tracker("auto") == "dis"
    with pytest.raises(ValueError, match="no tracker 'raft': choose one of auto, cotracker, dis, lk"):
        resolve_tracker("raft")
    with caplog.at_level(logging.INFO):
        assert track(panning_video(48, 48, (0, 0), 2), grid_points(), tracker="lk").tracker == "lk"
    assert "with lk" in caplog.text


@pytest.mark.parametrize(
    ("clip", "delta", "jaccard", "occlusion"),
    [
        pytest.param("dance-twirl", 0.65, 0.44, 0.84, marks=pytest.mark.slow),
        ("dog-agility", 0.55, 0.33, 0.77),
    ],
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

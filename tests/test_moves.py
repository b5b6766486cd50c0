"""Subject and camera told apart: where the points are, and what each part of a motion scores."""

import numpy as np
import pytest
import torch

from det_core.metrics.apart import scored_apart
from det_core.tracking.camera import projected
from det_core.tracking.moves import against_camera, cameras_of, still_points
from det_core.tracking.tracks import Tracks

FRAMES = 9


def pan(speed: float) -> np.ndarray:
    """(T, 3, 3) of a camera that pans by `speed` of the picture a frame, and zooms in a little."""
    step = np.array([[1.01, 0, speed], [0, 1.01, 0], [0, 0, 1]])
    return np.stack([np.linalg.matrix_power(step, t) for t in range(FRAMES)])


def scene(cameras: np.ndarray, path: np.ndarray) -> tuple[Tracks, torch.Tensor]:
    """Tracks of a subject of 12 points that moves along `path` (T, 2) in the world and of 20 points of the ground, as
    the cameras see them; and which are ground."""
    rng = np.random.default_rng(0)
    subject = 0.5 + 0.05 * rng.standard_normal((12, 2))
    ground = rng.uniform(0.1, 0.9, (20, 2))
    world = np.concatenate([subject[:, None] + path, np.repeat(ground[:, None], FRAMES, 1)])
    seen = np.stack([projected(world[:, t], cameras[t]) for t in range(FRAMES)], axis=1)
    tracks = Tracks(torch.from_numpy(seen), torch.ones(seen.shape[:2]))
    return tracks, torch.arange(32) >= 12


def line(x: float, y: float) -> np.ndarray:
    return np.linspace(0, 1, FRAMES)[:, None] * [x, y]


def test_the_camera_is_read_from_the_ground():
    cameras = pan(0.02)
    tracks, still = scene(cameras, line(0.2, 0.1))
    corners = np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]])
    for ours, true in zip(cameras_of(tracks.only(still)), cameras, strict=True):
        assert np.abs(projected(corners, ours) - projected(corners, true)).max() < 1e-3
    rest, _ = scene(np.stack([np.eye(3)] * FRAMES), line(0.2, 0.1))
    assert (against_camera(tracks, still).points - rest.only(~still).points).abs().max() < 1e-3


def test_each_part_is_scored_apart():
    source, still = scene(pan(0.02), line(0.2, 0.1))
    same = scored_apart(source, source, still)
    assert all(score.score > 0.99 for score in same.values())
    other_camera = scored_apart(source, scene(pan(-0.03), line(0.2, 0.1))[0], still)
    assert other_camera["subject against its camera"].score > 0.95 > 0.5 > other_camera["camera"].score
    other_subject = scored_apart(source, scene(pan(0.02), line(-0.3, -0.1))[0], still)
    assert other_subject["camera"].score > 0.95 > 0.5 > other_subject["subject against its camera"].score


def test_a_camera_alone_and_one_that_is_lost():
    source, still = scene(pan(0.02), line(0.2, 0.1))
    assert list(scored_apart(source.only(still), source.only(still), still[still])) == ["camera"]
    lost = Tracks(source.points, source.visible & ~still[:, None])
    assert np.array_equal(cameras_of(lost.only(still)), np.stack([np.eye(3)] * FRAMES))


@pytest.mark.parametrize("given", [True, False])
def test_still_points_lie_beside_the_subject(given):
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(24, 40, 3, generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    patch = torch.rand(8, 8, 3, generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    frames = picture.repeat(FRAMES, 1, 1, 1) * 0.5
    for t in range(FRAMES):
        frames[t, 30:62, 20 + 8 * t : 52 + 8 * t] = 0.5 + 0.5 * patch
    mask = torch.zeros(96, 160)
    mask[30:62, 20:52] = 1
    places, asked = still_points(frames, mask if given else None, 40, generator)
    assert len(places) == 40 and sorted(set(asked.tolist())) == [0, FRAMES - 1]
    x, y = (places * torch.tensor([160, 96])).unbind(1)
    left = 20 + 8 * asked
    inside = (x > left) & (x < left + 32) & (y > 30) & (y < 62)
    assert inside.float().mean() <= 0.05


def test_a_subject_that_fills_the_picture_leaves_nothing():
    frames = torch.rand(3, 32, 32, 3)
    with pytest.raises(ValueError, match="nothing is left to follow the camera by"):
        still_points(frames, torch.ones(32, 32), 1, torch.Generator())

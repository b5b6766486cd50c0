"""The camera's motion: known pans and zooms over a textured ground, with something moving before it."""

import numpy as np
import pytest
import torch
from seen_by_camera import moved, seen_by

from det_core.tracking.camera import camera_motion, projected, without_camera
from det_core.tracking.tracks import Tracks


@pytest.mark.parametrize(
    "step", [moved((0.02, -0.01)), moved(zoom=1.03), moved((-0.01, 0.0), 0.98)], ids=["pan", "zoom", "both"]
)
def test_a_known_camera_is_found_behind_a_moving_subject(step):
    cameras = np.stack([np.linalg.matrix_power(step, t) for t in range(6)])
    disc = np.stack([np.linspace(0.3, 0.6, 6), np.linspace(0.4, 0.6, 6)], axis=1)
    found = camera_motion(seen_by(cameras, disc))
    corners = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    for true, ours in zip(cameras, found, strict=True):
        assert np.abs(projected(corners, ours) - projected(corners, true)).max() < 0.01
    tracks = Tracks(torch.from_numpy(disc)[None], torch.ones(1, 6))
    still = without_camera(tracks, found).points[0]
    truth = np.stack([projected(at[None], np.linalg.inv(c))[0] for at, c in zip(disc, cameras, strict=True)])
    assert np.abs(still.numpy() - truth).max() < 0.01


def test_another_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="known in 3 frames and the tracks have 2"):
        without_camera(Tracks(torch.rand(1, 2, 2), torch.ones(1, 2)), np.stack([np.eye(3)] * 3))

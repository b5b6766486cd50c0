"""A real video's subject in the embedded model's world: its path against the truth, and a clip the model can learn."""

import logging

import numpy as np
import pytest
import torch
from seen_by_camera import HEIGHT, WIDTH, moved, seen_by

from det_core.media.masks import read_mask
from det_core.media.video import read_video
from det_core.metrics import motion_fidelity
from det_core.models.embedded.carried import CARRIED_SCENE, MARGIN_PX, _inside, carried_clip, subject_path
from det_core.models.embedded.corpus import SIZE
from det_core.models.embedded.reader import read_clip
from det_core.tracking.tracks import Tracks


def panned(frames: int = 8) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A disc that goes right and down before a pan to the left: (frames uint8, first mask, its path in the picture)."""
    cameras = np.stack([np.linalg.matrix_power(moved((-0.01, 0.0)), t) for t in range(frames)])
    disc = np.stack([np.linspace(0.2, 0.7, frames), np.linspace(0.3, 0.6, frames)], axis=1)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    mask = np.hypot(x - disc[0, 0] * WIDTH, y - disc[0, 1] * HEIGHT) < 14
    return (seen_by(cameras, disc) * 255).round().to(torch.uint8), torch.from_numpy(mask), disc


def test_the_subject_is_followed_by_what_moves_in_every_frame():
    frames, mask, disc = panned()
    index = torch.tensor([0, 2, 5, 7])
    assert np.abs(subject_path(frames, mask, index).numpy() - disc[index.numpy()]).max() < 0.08


@pytest.mark.slow
def test_the_clip_is_one_of_the_corpus_and_moves_as_the_subject_does():
    frames, mask, disc = panned()
    for camera, end in ((True, disc[-1, 0]), (False, disc[-1, 0] + 0.07)):
        clip = carried_clip(frames, mask, camera=camera)
        reading = read_clip(clip.frames)
        assert reading.is_corpus_clip and reading.agreement(CARRIED_SCENE)["edit_fidelity"] == 1.0
        assert (reading.centres - clip.path).norm(dim=1).max() < 1.0
        assert abs(float(clip.path[-1, 0] - clip.path[0, 0]) / SIZE - (end - disc[0, 0])) < 0.06


def test_a_path_out_of_the_picture_is_moved_and_shrunk_as_a_whole():
    path = torch.tensor([[-20.0, 30.0], [20.0, 60.0], [80.0, 30.0]])
    inside = _inside(path)
    assert inside.min() >= MARGIN_PX - 1e-4 and inside.max() <= SIZE - MARGIN_PX + 1e-4
    steps, shrunk = path.diff(dim=0), inside.diff(dim=0)
    assert torch.allclose(shrunk / steps, (shrunk / steps)[0, 0].expand(2, 2), atol=1e-5)
    kept = torch.tensor([[20.0, 30.0], [40.0, 40.0]])
    assert torch.equal(_inside(kept), kept)


def test_what_tells_no_path_is_refused_in_a_sentence():
    frames, mask, _ = panned(4)
    with pytest.raises(ValueError, match="marks nothing"):
        carried_clip(frames, mask & False)
    with pytest.raises(ValueError, match="not seen to move"):
        carried_clip(frames[:1].expand(4, -1, -1, -1), mask)
    with pytest.raises(ValueError, match="3 frames or more"):
        carried_clip(frames[:2], mask)


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "masks_every"), [("dance-twirl", 1), ("dog-agility", 2)])
def test_the_path_of_real_clips_is_that_of_their_masks(shared_data, clip, masks_every, caplog):
    folder = shared_data / "mtbench" / clip
    frames = read_video(folder / f"{clip}.mp4").frames
    index = torch.linspace(0, len(frames) - 1, 9).round().long()
    centres = []
    for frame in index.tolist():
        picture = folder / "masks" / f"{round(frame / masks_every):05}.png"
        rows, columns = torch.nonzero(read_mask(picture, *frames.shape[1:3]), as_tuple=True)
        centres.append([float(columns.float().mean()) / frames.shape[2], float(rows.float().mean()) / frames.shape[1]])
    truth = Tracks(torch.tensor(centres)[None], torch.ones(1, 9))
    mask = read_mask(folder / "masks" / "00000.png", *frames.shape[1:3])
    with caplog.at_level(logging.WARNING):
        carried = carried_clip(frames, mask)
    assert not caplog.text, "one word of doubt a clip at most, not one a frame"
    assert motion_fidelity(truth, Tracks(carried.path[None] / SIZE, torch.ones(1, 9))).score > 0.8

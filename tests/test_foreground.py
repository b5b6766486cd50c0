import logging

import pytest
import torch
from moving_scenes import moving_scene

from det_core.media.masks import read_mask
from det_core.media.video import read_video
from det_core.models.embedded import corpus
from det_core.tracking.foreground import foreground_mask, found_subject


def overlap(found, truth):
    """Intersection over union."""
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize(
    ("video", "mask", "least"),
    [
        ("mtbench/dance-twirl/dance-twirl.mp4", "mtbench/dance-twirl/masks", 0.6),
        ("mtbench/dog-agility/dog-agility.mp4", "mtbench/dog-agility/masks", 0.6),
        ("clips/apple.mp4", "clips/apple_mask.png", 0.9),
    ],
)
def test_finds_the_subject_of_real_clips(shared_data, video, mask, least):
    frames = read_video(shared_data / video).frames
    found = foreground_mask(frames[:9])
    assert found.dtype == torch.bool
    assert overlap(found, read_mask(shared_data / mask, *frames.shape[1:3])) >= least


def moving_sprite(scene, start, step, frames=9):
    path = torch.tensor(start) + torch.arange(frames)[:, None] * torch.tensor(step)
    video = corpus.render_video(scene, path, torch.full((frames,), 9.0), torch.zeros(frames))
    x, y = corpus._pixel_grid()
    sprite = corpus.sprite_coverage(scene.shape, x - start[0], y - start[1], torch.tensor(9.0), torch.tensor(0.0))
    return video, sprite > 0.5


@pytest.mark.parametrize(
    "scene",
    [
        corpus.Scene("red", "circle", "navy", "plain"),  # no texture behind it
        corpus.Scene("green", "star", "maroon", "striped"),
        corpus.Scene("white", "square", "teal", "gradient"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_finds_a_sprite(scene, dtype):
    video, truth = moving_sprite(scene, (20.0, 30.0), (3.5, 1.5))
    found = foreground_mask((video * 255).round().to(dtype) if dtype == torch.uint8 else video)
    assert found.shape == (64, 64)
    assert overlap(found, truth) > 0.7


@pytest.mark.parametrize(("kind", "least"), [("plain", 0.9), ("snow", 0.9), ("mostly its head", 0.9)])
def test_finds_figures_that_no_constant_was_chosen_on(kind, least):
    frames, masks = moving_scene(kind, 0)
    found, doubt = found_subject(frames)
    assert not doubt and overlap(found, masks[0]) >= least


def test_doubts_a_subject_that_is_next_to_nothing():
    video, _ = moving_sprite(corpus.Scene("red", "circle", "navy", "checkered"), (20.0, 30.0), (3.5, 1.5))
    far = torch.zeros(9, 256, 256, 3) + torch.tensor(corpus.BACKGROUND_COLOURS["navy"])
    far[:, 96:160, 96:160] = video
    found, doubt = found_subject(far)
    assert found.float().mean() < 0.015 and "covers only" in doubt


def test_warns_when_nothing_moves(caplog):
    still = torch.rand(1, 60, 80, 3, generator=torch.Generator().manual_seed(0)).expand(5, -1, -1, -1)
    with caplog.at_level(logging.WARNING):
        found = foreground_mask(still)
    assert "almost nothing moves against the camera" in caplog.text
    assert found.shape == (60, 80)


def test_warns_when_the_camera_explains_little(caplog):
    noise = torch.rand(4, 60, 80, 3, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        foreground_mask(noise)
    assert "explains only" in caplog.text


def test_black_video_is_all_subject(caplog):
    with caplog.at_level(logging.WARNING):
        assert foreground_mask(torch.zeros(3, 40, 50, 3)).all()
    assert "the whole picture is the subject" in caplog.text


def test_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"2 frames or more, got \(1, 8, 8, 3\): give a mask"):
        foreground_mask(torch.zeros(1, 8, 8, 3))
    with pytest.raises(ValueError, match="2 frames or more"):
        foreground_mask(torch.zeros(5, 3, 8, 8))

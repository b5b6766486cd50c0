"""Points are found again: a subject that comes late, comes back or was lost is measured, and no clip gains by it."""

import logging

import pytest
import torch
from panning import texture

from det_core.media.masks import read_mask
from det_core.media.video import read_video
from det_core.metrics import motion_fidelity
from det_core.tracking.subject import _on_subject, follow_subject
from det_core.tracking.trackers import track_again
from det_core.tracking.tracks import Tracks

HEIGHT, WIDTH, SIDE, FRAMES = 96, 144, 30, 33
LEFT = -SIDE + 4.5 * torch.arange(FRAMES)  # of a square that comes in from the left and goes to the right


def square_over(left: torch.Tensor, behind: slice | None = None) -> torch.Tensor:
    """A textured square at `left` (T,) px over a textured picture; `behind`: columns of the picture that cover it."""
    picture, square = texture(HEIGHT, WIDTH, seed=1), texture(SIDE, SIDE, seed=2).flip(-1)
    video = picture.repeat(len(left), 1, 1, 1)
    for frame, x in zip(video, left.round().int().tolist(), strict=True):
        start, stop = max(x, 0), min(x + SIDE, WIDTH)
        if start < stop:
            frame[33 : 33 + SIDE, start:stop] = square[:, start - x : stop - x]
        if behind is not None:
            frame[:, behind] = picture[:, behind]
    return video


def on_square(tracks: Tracks, left: torch.Tensor) -> torch.Tensor:
    """(N, T) bool: seen, and within the square."""
    x, y = tracks.points[..., 0] * WIDTH - left, tracks.points[..., 1] * HEIGHT - 33
    return tracks.visible & (x > -2) & (x < SIDE + 2) & (y > -2) & (y < SIDE + 2)


def subject_of(video: torch.Tensor, mask: torch.Tensor | None = None, tracker: str = "lk") -> Tracks:
    """Points of the subject; `lk` takes a third of the time of `dis`, which loses fewer."""
    return follow_subject(video, mask, torch.Generator().manual_seed(0), 40, tracker=tracker)


def score(source: Tracks, video: torch.Tensor):
    return motion_fidelity(source, track_again(video, source, tracker=source.tracker))


def test_a_subject_that_comes_into_view_later_is_measured(caplog):
    video = square_over(LEFT)
    with caplog.at_level(logging.WARNING):
        source = subject_of(video)
    seen = on_square(source, LEFT)
    assert (seen.sum(0)[8:30] >= 10).all(), "from when it is in view, whole or nearly so, until it leaves"
    assert seen.sum() > 0.8 * source.visible.sum(), "and little else"
    assert score(source, video).score > 0.99
    assert score(source, square_over(LEFT.flip(0))).score <= 0.35
    assert score(source, video[:1].expand(FRAMES, -1, -1, -1)).score <= 0.5, "where nothing ever comes"


def test_a_subject_that_comes_back_is_found_again():
    left = LEFT + 34
    video = square_over(left, behind=slice(60, 100))  # whole until frame 12, gone at 14, whole again from 22 on
    seen = on_square(subject_of(video, tracker="dis"), left).sum(0)
    assert (seen[:10] >= 10).all() and (seen[23:30] >= 5).all()


@pytest.mark.slow
def test_nothing_is_added_where_nothing_is_lost():
    source = subject_of(square_over(20 + 1.5 * torch.arange(FRAMES)), tracker="dis")
    assert len(source) <= 48 and source.visible.float().mean() > 0.8
    assert (source.query_frames == 0).sum() == 40


def test_points_beside_the_subject_where_it_is_looked_for_again_are_hidden_from_there_on():
    subject = torch.zeros(100, 100, dtype=torch.bool)
    subject[40:60, 40:60] = True
    points = torch.tensor([0.5, 0.61, 0.9, 0.9, 0.9])[:, None, None].expand(-1, 40, 2).clone()
    tracks = Tracks(points, torch.ones(5, 40), "dis", torch.tensor([0, 0, 0, 32, 16]))
    shown = [row.nonzero().flatten().tolist() for row in _on_subject(tracks, {16: subject}).visible]
    assert shown[0] == shown[1] == list(range(40)), "on it, or next to its edge"
    assert shown[2] == list(range(16)) and shown[3] == list(range(17, 40)), "from there on, away from their own frame"
    assert shown[4] == list(range(40)), "chosen there"


def test_with_a_mask_of_something_else_all_points_are_of_the_first_frame():
    video, mask = square_over(LEFT + 40), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[70:, 90:] = True  # the picture itself, which rests
    assert not subject_of(video, mask).query_frames.any()
    square = torch.zeros_like(mask)
    square[33 : 33 + SIDE, 10 : 10 + SIDE] = True
    found = subject_of(video, square)
    assert found.query_frames.any()
    painted = subject_of(video, square.float())  # as ComfyUI's MASK comes
    assert torch.equal(painted.points, found.points) and torch.equal(painted.query_frames, found.query_frames)


def test_the_papers_metric_takes_the_points_of_the_first_frame():
    generator = torch.Generator().manual_seed(0)
    points, seen = torch.rand(6, 12, 2, generator=generator), torch.ones(6, 12, dtype=torch.bool)
    asked = torch.tensor([0, 5, 0, 5, 0, 11])
    source, other = Tracks(points, seen, "dis", asked), Tracks(points.flip(1), seen, "dis", asked)
    for variant in ("hybrid", "reference_code"):
        found = motion_fidelity(source, other, variant)
        alone = motion_fidelity(source.only(asked == 0), other.only(asked == 0), variant)
        assert found.score == alone.score
        assert found.per_track.isnan().tolist() == (asked > 0).tolist()
    assert motion_fidelity(source, other).per_track.isfinite().all(), "the strict score takes all"


CLIPS = {
    "dog-agility": ("mtbench/dog-agility/dog-agility.mp4", "mtbench/dog-agility/masks"),
    "dance-twirl": ("mtbench/dance-twirl/dance-twirl.mp4", "mtbench/dance-twirl/masks"),
    "apple": ("clips/apple.mp4", "clips/apple_mask.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_real_clips_cannot_be_fooled(shared_data, clip):
    frames = read_video(shared_data / CLIPS[clip][0]).frames
    mask = read_mask(shared_data / CLIPS[clip][1], *frames.shape[1:3])
    source = follow_subject(frames, mask, torch.Generator().manual_seed(0), tracker="dis")
    moments = (source.visible[:, 1:] & source.visible[:, :-1]).sum(0)
    assert (moments >= 5).all(), "something of the subject is seen at every moment"
    itself = score(source, frames)
    assert itself.score >= 0.99 and itself.coverage >= 0.9
    noise = torch.randint(0, 256, frames.shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert score(source, torch.cat([frames[:3], frames.flip(0)[:-3]])).score <= 0.35
    assert score(source, torch.cat([frames[:8], noise[8:]])).score <= 0.35
    # Reversed as a whole, the dog's places show the background, which nearly rests: as good as a picture that does not
    # move, which the paper's formula gives 0.47.
    assert score(source, frames.flip(0)).score <= (0.48 if clip == "dog-agility" else 0.35)

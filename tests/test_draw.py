import numpy as np
import pytest
import torch

from det_core.tracking.curve import loss_curve
from det_core.tracking.draw import HIDDEN, contact_sheet, draw_tracks, side_by_side
from det_core.tracking.look import LIGHT
from det_core.tracking.tracks import Tracks


def pixels(image):
    return np.asarray(image).astype(int)


def has_colour(image, colour, tolerance=2):
    return bool((np.abs(pixels(image) - np.array(colour)).max(axis=-1) <= tolerance).any())


def crossing(frames=6):
    """One point from left to right that hides in the last frame, one that rests hidden."""
    x = torch.linspace(0.1, 0.9, frames)
    points = torch.stack([torch.stack([x, torch.full_like(x, 0.5)], -1), torch.full((frames, 2), 0.2)])
    visible = torch.ones(2, frames, dtype=torch.bool)
    visible[0, -1] = False
    visible[1] = False
    return Tracks(points, visible)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_tracks_are_drawn_where_the_points_are(dtype):
    frames = torch.zeros(6, 300, 400, 3, dtype=dtype)
    drawn = draw_tracks(frames, crossing())
    assert drawn.shape == frames.shape and drawn.dtype == torch.uint8
    for t in range(5):
        x = round(float(crossing().points[0, t, 0]) * 400)
        assert drawn[t, 150, x].max() > 200  # the dot
        assert drawn[t, :, x + 12 :].float()[100:].max() == 0  # nothing ahead of it
    assert drawn[0, 150, :30].max() == 0 and drawn[4, 150, 60].max() > 0  # the tail grows
    assert drawn[4, 150, 230].max() > drawn[4, 150, 60].max()  # and fades
    spread = drawn[5].int().amax(dim=-1) - drawn[5].int().amin(dim=-1)
    assert drawn[5].max() > 0 and spread.max() <= 2  # both hidden: grey only
    assert not torch.equal(drawn[5, 60, 80], torch.tensor(HIDDEN, dtype=torch.uint8))  # a ring, not a dot


def test_points_of_later_frames_leave_no_rings_before_they_are_seen():
    frames, lost_at = torch.zeros(30, 300, 400, 3), 5
    points, visible = torch.full((2, 30, 2), 0.25), torch.zeros(2, 30, dtype=torch.bool)
    points[1], visible[0, :lost_at], visible[1, 20:] = 0.75, True, True
    first, later = ((slice(60, 90), slice(80, 120)), (slice(210, 240), slice(280, 320)))
    drawn = draw_tracks(frames, Tracks(points, visible, query_frames=torch.tensor([0, 25])))
    shown = [[bool(picture[part].any()) for picture in drawn] for part in (first, later)]
    assert shown[0] == [t < lost_at + 12 for t in range(30)]  # a ring as long as the tail would be
    assert shown[1] == [t >= 20 for t in range(30)]
    assert draw_tracks(frames, Tracks(points, visible))[29][first].any()  # where it is not known, always


def test_small_videos_are_enlarged_with_square_pixels():
    frames = torch.rand(2, 64, 100, 3)
    away = Tracks(torch.full((1, 2, 2), 5.0), torch.zeros(1, 2))
    drawn = draw_tracks(frames, away)
    assert drawn.shape == (2, 256, 400, 3)
    assert torch.equal(drawn[:, ::4, ::4], (frames * 255).round().to(torch.uint8))


def test_tracks_of_another_length_are_refused():
    with pytest.raises(ValueError, match="6 frames, the video 5"):
        draw_tracks(torch.zeros(5, 8, 8, 3), crossing())


@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"denoising": []},
        {"denoising": [0.5]},
        {"denoising": [0.5] * 40, "tracking": [0.5] * 40},  # constant
        {"denoising": [0.0, 0.0, 0.0]},
        {"denoising": [-1.0, 3.0, float("nan"), 2.0, float("inf")]},
        {"denoising": [float("nan")] * 3},
        {"denoising": [1e-6, 1.0, 1e6], "tracking": [0.1]},
        {"denoising": [1e-12, 1.1e-12]},
    ],
)
@pytest.mark.parametrize(("width", "height"), [(720, 400), (240, 160)])
def test_loss_curve_of_any_values(losses, width, height):
    picture = loss_curve(losses, width, height)
    assert picture.size == (width, height)
    finite = [any(np.isfinite(v) for v in term) for term in losses.values()]
    assert [has_colour(picture, colour) for colour in LIGHT.lines[: len(finite)]] == [bool(t) for t in losses]


def test_loss_curve_falls_where_the_loss_falls():
    picture = pixels(loss_curve({"denoising": list(np.linspace(1.0, 0.2, 200))}, 720, 400))
    below_legend = np.abs(picture - np.array(LIGHT.lines[0])).max(axis=-1) <= 2
    below_legend[:30] = False
    rows, columns = np.nonzero(below_legend)
    assert rows[columns < 200].mean() < rows[(columns > 300) & (columns < 400)].mean() < rows[columns > 600].mean()


def test_contact_sheet_shows_first_to_last_frame():
    """Frame t of ten is grey level 20t: four columns must show frames 0, 3, 6, 9."""
    frames = (torch.arange(10)[:, None, None, None] * 20).expand(-1, 30, 40, 3).to(torch.uint8)
    picture = pixels(contact_sheet([("ramp", frames)], columns=4, cell_width=100))
    assert picture.shape[1] == 4 * 106 + 6
    row = picture[picture.shape[0] - 40]
    assert [int(row[6 + 50 + 106 * i, 0]) for i in range(4)] == [0, 60, 120, 180]


def test_contact_sheet_takes_mixed_videos_and_long_labels():
    rows = [
        ("short", torch.zeros(1, 480, 720, 3)),
        ("a label " * 30, torch.ones(3, 64, 64, 3) * 0.5),
        ("", torch.zeros(9, 100, 50, 3, dtype=torch.uint8)),
    ]
    picture = contact_sheet(rows, columns=3, cell_width=90)
    assert picture.size[0] == 3 * 96 + 6
    assert picture.size[1] > 60 + 90 + 180 + 5 * 20  # the pictures and the wrapped label
    assert picture.getpixel((picture.size[0] - 1, picture.size[1] - 1)) == LIGHT.paper
    with pytest.raises(ValueError, match="one video or more"):
        contact_sheet([])


def test_videos_stand_side_by_side_under_their_labels():
    """All have the tallest one's height and their own shape; the shortest one ends it."""
    red = torch.tensor([1.0, 0, 0]).expand(5, 300, 400, 3)
    blue = torch.tensor([0, 0, 1.0]).expand(3, 64, 64, 3)
    joined = side_by_side([("source", red), ("with", blue)])
    assert joined.shape == (3, joined.shape[1], 400 + 4 + 300, 3) and joined.dtype == torch.uint8
    top = joined.shape[1] - 300
    assert top > 10 and (joined[:, top:, :400] == torch.tensor([255, 0, 0])).all()
    assert (joined[:, top:, 404:] == torch.tensor([0, 0, 255])).all()
    for left, right in ((0, 400), (404, 704)):
        assert (joined[0, :top, left:right] == 255).any(), "a label"
    with pytest.raises(ValueError, match="one video or more"):
        side_by_side([])

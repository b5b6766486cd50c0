"""Points to follow, drawn from a mask: inside it, repeatable, isolated ones likelier."""

import logging

import numpy as np
import pytest
import scipy.ndimage
import torch

from det_core.tracking.tracks import sample_query_points


def blob(height=60, width=80):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((x - 30) ** 2 / 400 + (y - 25) ** 2 / 200) < 1


@pytest.mark.parametrize("kind", ["bool", "uint8", "float"])
def test_query_points_are_pixels_inside_the_eroded_mask(kind):
    mask = blob()
    given = {"bool": mask, "uint8": mask * 200 + 20, "float": mask * 0.6 + 0.1}[kind]
    given = given.to(torch.uint8) if kind == "uint8" else given
    points = sample_query_points(given, 40, generator=torch.Generator().manual_seed(0))
    pixels = points * torch.tensor([80.0, 60.0]) - 0.5
    assert points.shape == (40, 2) and points.dtype == torch.float32
    assert torch.allclose(pixels, pixels.round(), atol=1e-4)
    assert len({tuple(p) for p in pixels.round().tolist()}) == 40
    eroded = scipy.ndimage.binary_erosion(mask.numpy(), np.ones((5, 5)))
    x, y = pixels.round().long().T
    assert eroded[y, x].all()


def test_query_points_repeat_with_the_seed():
    first, again, other = (
        sample_query_points(blob(), 20, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_isolated_pixels_are_likelier():
    """Two far pixels weigh 1 each, a block of 20x20 about 1/81 a pixel: they must be drawn far above their share."""
    mask = torch.zeros(480, 720, dtype=torch.bool)
    mask[100:120, 100:120] = True
    mask[400, 600] = mask[50, 650] = True
    mask[100:120, 100:120:2] = False  # stripes of 1 px: erosion would leave nothing, so it is skipped
    drawn = 0
    for seed in range(50):
        points = sample_query_points(mask, 10, generator=torch.Generator().manual_seed(seed))
        drawn += int((points[:, 0] > 0.5).sum())
    uniform = 50 * 10 * 2 / int(mask.sum())
    assert drawn > 8 * uniform


def test_radius_grows_with_the_mask():
    """The same pixels in a picture of twice the size weigh the same: a sparse row keeps its share of the points."""
    small = torch.zeros(240, 360, dtype=torch.bool)
    small[50:90:2, 50:90:2] = True
    small[200:201, 20:340:10] = True
    large = torch.zeros(480, 720, dtype=torch.bool)
    large[::2, ::2] = small
    shares = []
    for mask in (small, large):
        row = 0
        for seed in range(40):
            points = sample_query_points(mask, 20, radius=10, generator=torch.Generator().manual_seed(seed))
            row += int((points[:, 1] > 0.8).sum())
        shares.append(row / 800)
    assert shares[0] == pytest.approx(shares[1], abs=0.08)


def test_small_masks_give_all_their_pixels(caplog):
    mask = torch.zeros(9, 9)
    mask[4, 2:6] = 1
    points = sample_query_points(mask, 100)
    assert sorted((points[:, 0] * 9 - 0.5).round().tolist()) == [2, 3, 4, 5]
    assert torch.allclose(points[:, 1], torch.tensor(4.5 / 9))


def test_bad_masks(caplog):
    with pytest.raises(ValueError, match="mask is empty"):
        sample_query_points(torch.zeros(8, 8), 3)
    with pytest.raises(ValueError, match=r"one picture .*got \(1, 8, 8\)"):
        sample_query_points(torch.ones(1, 8, 8), 3)
    with pytest.raises(ValueError, match="1 or more"):
        sample_query_points(torch.ones(8, 8), 0)
    with caplog.at_level(logging.WARNING):
        assert len(sample_query_points(torch.ones(64, 64), 3)) == 3
    assert "covers the whole picture" in caplog.text

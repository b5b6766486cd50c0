import logging

import numpy as np
import pytest
import torch
from PIL import Image

from det_core.media.masks import read_mask


def save_mask(path, array):
    Image.fromarray(array).save(path)


def test_masks_are_binarised(tmp_path, caplog):
    truth = torch.zeros(6, 10, dtype=torch.bool)
    truth[2:4, 3:8] = True
    grey = np.where(truth.numpy(), 128, 127).astype(np.uint8)
    save_mask(tmp_path / "grey.png", grey)
    save_mask(tmp_path / "rgb.png", np.repeat(grey[..., None], 3, -1))
    indexed = Image.new("P", (10, 6))
    indexed.putdata(truth.flatten().int().tolist())
    indexed.putpalette([0, 0, 0, 128, 0, 0] + [0] * 750)  # as DAVIS: subject 1 is dark red
    indexed.save(tmp_path / "davis.png")
    Image.fromarray(np.where(truth.numpy(), 40000, 100).astype(np.uint16)).save(tmp_path / "deep.png")
    with caplog.at_level(logging.WARNING):
        for name in ("grey.png", "rgb.png", "davis.png", "deep.png"):
            assert torch.equal(read_mask(tmp_path / name, 6, 10), truth), name
    assert not caplog.text


def test_mask_of_another_size_is_resized(tmp_path, caplog):
    array = np.zeros((4, 6), np.uint8)
    array[1:3, 2:4] = 255
    save_mask(tmp_path / "a.png", array)
    with caplog.at_level(logging.WARNING):
        mask = read_mask(tmp_path / "a.png", 8, 12)
    assert "6x4, the video 12x8: resized" in caplog.text
    assert torch.equal(mask, torch.from_numpy(array > 0).repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_folder_of_masks_gives_the_first(tmp_path):
    for number, value in ((1, 255), (0, 200)):
        array = np.zeros((4, 4), np.uint8)
        array[number, number] = value
        save_mask(tmp_path / f"{number:05d}.png", array)
    assert read_mask(tmp_path, 4, 4).nonzero().tolist() == [[0, 0]]


def test_bad_masks(tmp_path):
    save_mask(tmp_path / "black.png", np.full((4, 4), 90, np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("black.png", "is empty: nothing in it is white"),
        ("text.png", "not a picture"),
        ("folder", "has no .png in it"),
        ("missing.png", "no such mask"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_mask(tmp_path / name, 4, 4)
        assert name in str(caught.value) and "\n" not in str(caught.value)


DISC = np.hypot(*np.mgrid[-20:20, -30:30]) < 12


def seen_as_disc(path) -> float:
    """Intersection over union of what is read with the disc."""
    mask = read_mask(path, *DISC.shape).numpy()
    return (mask & DISC).sum() / (mask | DISC).sum()


def test_white_paint_over_nothing_is_the_mask(tmp_path):
    """Also where black lies under the transparent parts, or white does."""
    for name, under in (("black", 0), ("white", 255)):
        picture = np.full((*DISC.shape, 4), under, np.uint8)
        picture[DISC] = 255
        picture[~DISC, 3] = 0
        save_mask(tmp_path / f"{name}.png", picture)
        assert seen_as_disc(tmp_path / f"{name}.png") == 1
    save_mask(tmp_path / "grey.png", picture[..., [0, 3]])
    assert seen_as_disc(tmp_path / "grey.png") == 1


def test_black_and_white_with_a_useless_alpha(tmp_path):
    picture = np.zeros((*DISC.shape, 4), np.uint8)
    picture[DISC, :3] = 255
    picture[..., 3] = 255
    save_mask(tmp_path / "opaque.png", picture)
    picture[:3, :, 3] = 0
    save_mask(tmp_path / "edge.png", picture)
    assert seen_as_disc(tmp_path / "opaque.png") == seen_as_disc(tmp_path / "edge.png") == 1


def test_a_photograph_with_transparent_parts_is_refused(tmp_path):
    """A hole where the subject is, or the subject cut out: the file does not say which."""
    picture = np.random.default_rng(0).integers(0, 255, (*DISC.shape, 4), np.uint8)
    for name, seen in (("hole.png", ~DISC), ("cut_out.png", DISC)):
        picture[..., 3] = 255 * seen
        save_mask(tmp_path / name, picture)
        with pytest.raises(ValueError, match=f"{name} has transparent parts"):
            read_mask(tmp_path / name, *DISC.shape)


@pytest.mark.parametrize("white", [0, 1])
def test_a_palette_of_black_and_white_is_read_by_its_colours(tmp_path, white):
    picture = Image.fromarray(np.where(DISC, white, 1 - white).astype(np.uint8), "P")
    picture.putpalette([255 * (entry == white) for entry in range(2) for _ in range(3)])
    picture.save(tmp_path / "a.png")
    assert seen_as_disc(tmp_path / "a.png") == 1


def test_a_turned_photograph_of_a_mask_is_set_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter clockwise
    Image.fromarray(np.rot90(255 * DISC.astype(np.uint8), 1).copy()).save(tmp_path / "a.png", exif=exif)
    assert seen_as_disc(tmp_path / "a.png") == 1


def test_nearly_all_of_the_picture_is_said(tmp_path, caplog):
    save_mask(tmp_path / "a.png", np.where(DISC, 0, 255).astype(np.uint8))
    with caplog.at_level(logging.WARNING):
        read_mask(tmp_path / "a.png", *DISC.shape)
        assert not caplog.text  # 81%
        inside = np.full((20, 20), 255, np.uint8)
        inside[:4, :5] = 0
        save_mask(tmp_path / "b.png", inside)
        read_mask(tmp_path / "b.png", 20, 20)
    assert "takes 95% of the picture as the subject" in caplog.text and "invert" in caplog.text

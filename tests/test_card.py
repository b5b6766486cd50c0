"""The card of a motion's file: its picture comes back, and a broken one is no error."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from det_core.media.card import LICENSE, PREFIX, THUMBNAIL, TITLE, card, picture_of


def test_five_frames_side_by_side():
    frames = torch.zeros(9, 64, 96, 3)
    for frame, channel in ((0, 0), (4, 1), (8, 2)):
        frames[frame, ..., channel] = 1
    made = card(frames, title="twirl", license="CC-BY")
    assert made[TITLE] == "twirl" and made[LICENSE] == "CC-BY" and len(made[THUMBNAIL]) < 40_000
    assert all(isinstance(text, str) for text in made.values()) and "modelspec.description" not in made
    seen = np.asarray(picture_of(made))
    assert seen.shape == (128, 5 * 192, 3)
    assert [seen[64, 96 + 192 * i].argmax() for i in (0, 2, 4)] == [0, 1, 2]


def test_a_clip_of_one_frame_and_of_bytes():
    assert picture_of(card(torch.full((1, 30, 40, 3), 255, dtype=torch.uint8))).size == (171, 128)


def big_picture() -> str:
    data = io.BytesIO()
    Image.new("L", (9000, 9000)).save(data, "JPEG")
    return PREFIX + base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize(
    "url",
    ["", "no url", PREFIX + "§§", PREFIX + "AAAA", "data:image/png;base64,AAAA", PREFIX + "A" * 300_000, big_picture()],
)
def test_what_is_no_picture_is_none(url):
    assert picture_of({THUMBNAIL: url}) is None
    assert picture_of({}) is None

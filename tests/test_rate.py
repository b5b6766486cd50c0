"""A clip at a model's rate and length: which frames stand for it, and what is said of it."""

import pytest
from tiny_dits import build

from det_core.media.rate import shortened, timed
from det_core.models.families import spec_for


def test_a_faster_clip_is_thinned_to_the_models_rate():
    clip = timed(60, 30.0, 24.0)
    assert clip.frames[:6] == (0, 1, 2, 4, 5, 6) and len(clip.frames) == 48 and clip.frames[-1] == 59
    assert (clip.fps, clip.said) == (24.0, "30 frames a second became 24")
    assert timed(61, 50.0, 25.0).frames == tuple(range(0, 61, 2))


@pytest.mark.parametrize(("source", "model"), [(0.0, 24.0), (24.0, 0.0), (23.976, 24.0), (24.0, 24.0)])
def test_an_unknown_or_equal_rate_changes_nothing(source, model):
    clip = timed(9, source, model)
    assert clip.frames == tuple(range(9)) and clip.said == "" and clip.fps == source


def test_no_frame_is_made_up():
    clip = timed(9, 12.0, 24.0)
    assert clip.frames == tuple(range(9)) and clip.fps == 12.0
    assert clip.said == "12 frames a second, at the model's 24 2 times as fast"


def test_a_longer_clip_is_cut_or_thinned_as_asked():
    clip = timed(100, 24.0, 24.0)
    cut, thin = shortened(clip, 49, "cut"), shortened(clip, 49, "thin")
    assert cut.frames == tuple(range(49)) and (cut.fps, cut.said) == (24.0, "the last 51 cut off")
    assert thin.frames == tuple(range(0, 97, 2)) and (thin.fps, thin.said) == (
        12.0,
        "one frame in 2, the last 3 cut off",
    )
    assert shortened(clip, 100, "thin") == shortened(clip, 100, "cut") == clip
    assert shortened(timed(60, 50.0, 25.0), 10, "thin").frames == tuple(range(0, 55, 6)), "both: one in 2, then in 3"


@pytest.mark.parametrize(
    ("family", "changes", "fps"),
    [
        ("cogvideox", {}, 8),
        ("cogvideox", {"patch_size_t": 2}, 16),
        ("hunyuan_video", {}, 24),
        ("wan", {}, 16),
        ("wan", {"in_channels": 48, "out_channels": 48}, 24),
        ("ltx", {}, 25),
    ],
)
def test_a_base_model_has_its_rate(family, changes, fps):
    assert spec_for(build(family, **changes)).defaults.fps == fps

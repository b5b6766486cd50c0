"""The picture on a training node: readable at the node's width, in the editor's colours, samples under the source."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def editor(pack, tmp_path, monkeypatch):
    """A function that sets what the only user has chosen in the editor."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    (tmp_path / "default").mkdir()
    return lambda text: (tmp_path / "default" / "comfy.settings.json").write_text(text)


def look():
    from det_pack.nodes._comfy.display.theme import look

    return look()


def test_the_colours_follow_the_editor(editor, monkeypatch):
    from comfy.cli_args import args
    from det_pack.det_core.tracking.look import DARK, LIGHT

    assert look() is DARK, "nothing is set yet"
    own = {"mine": {"light_theme": True}, "other": {}}
    for settings, expected in (
        ({"Comfy.ColorPalette": "light"}, LIGHT),
        ({"Comfy.ColorPalette": "nord"}, DARK),
        ({"Comfy.ColorPalette": "custom_mine", "Comfy.CustomColorPalettes": own}, LIGHT),
        ({"Comfy.ColorPalette": "custom_other", "Comfy.CustomColorPalettes": own}, DARK),
    ):
        editor(json.dumps(settings))
        assert look() is expected, settings
    for damaged in ("", "[1]", '{"Comfy.ColorPalette": 3, "Comfy.CustomColorPalettes": 4}'):
        editor(damaged)
        assert look() is DARK
    editor(json.dumps({"Comfy.ColorPalette": "light"}))
    monkeypatch.setattr(args, "multi_user", True)
    assert look() is DARK, "another user's choice is not known"


def drawn(rows=(), look_name: str = "DARK", words=("loss 0.1234", "step 3 of 9", "1:00 left")):
    from det_pack.det_core.tracking import look
    from det_pack.nodes._comfy.display.live import live_picture

    losses = {"denoising": [0.5, 0.3] * 1000, "tracking": [0.1, 0.05] * 1000, "total": [0.6, 0.35] * 1000}
    return live_picture(losses, words, rows, getattr(look, look_name))


def test_type_is_readable_at_half_the_size(pack):
    """At a node's width its type has 11 pixels, and none of it is cut off."""
    import numpy as np
    from det_pack.nodes._comfy.display.live import LARGE, SMALL, WIDTH
    from det_pack.workflows.source.sizes import COLUMN

    assert WIDTH == 2 * COLUMN and SMALL >= 22 and LARGE >= 36
    ink = np.array(drawn()) != np.array((32, 33, 36))
    border = np.concatenate([ink[:2].any((1, 2)), ink[:, :2].any((1, 2)), ink[:, -2:].any((1, 2))])
    assert not border.any()


@pytest.mark.parametrize(("size", "shown"), [((64, 64), 5), ((48, 72), 3), ((96, 64), 6)])
def test_rows_show_the_first_and_the_last_frame(pack, size, shown):
    from det_pack.nodes._comfy.display.live import some_frames

    video = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, *size, 3)
    frames = some_frames(video[None])
    assert len(frames) == shown and frames[0].max() == 0 and frames[-1].min() == 1
    picture = drawn([("source", frames), ("step 300", frames)])
    assert picture.width == drawn().width and picture.height > drawn().height
    assert picture.getpixel((picture.width - 30, picture.height - 10)) == (255, 255, 255)
    assert drawn(look_name="LIGHT").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("stage", "resumed", "left"),
    [
        ("only", None, "1:10 left"),  # 7 of 10 steps are to come
        ("only", 2, "1:10 left"),
        ("spatial", None, "1:10 left of this stage"),
        ("spatial", 2, "1:10 left of this stage"),
        ("temporal", None, "2:50 left"),  # 17 of 20
        ("temporal", 2, "2:50 left"),
    ],
)
def test_the_time_left_is_told_by_the_steps_that_were_timed(pack, monkeypatch, stage, resumed, left):
    """Ten seconds a step, whatever was trained before: in the same run, or by the earlier stage of Follow-Your-Motion.
    What a step of another stage will take is not known before."""
    from det_pack.nodes._comfy.display import preview
    from det_pack.nodes._comfy.training.keeper import Keeper
    from det_pack.nodes._comfy.training.runs import SavedRun

    before, steps, total = {"only": (0, 10, 10), "spatial": (0, 10, 30), "temporal": (10, 20, 30)}[stage]
    now, texts, bar = [1000.0], [], []
    monkeypatch.setattr(preview, "time", SimpleNamespace(monotonic=lambda: now[0]))
    view = preview.TrainingView(total)
    monkeypatch.setattr(view, "say", texts.append)
    monkeypatch.setattr(view.bar, "update_absolute", lambda done, total, picture: bar.append(done))
    now[0] += 5000  # the earlier stage
    run = SavedRun(Path("unused"), resumed and SimpleNamespace(step=resumed), steps)
    keeper = Keeper(run, view, None, 0, offset=before).__enter__()
    for step in range((resumed or 0) + 1, 4):
        now[0] += 10
        keeper._show(SimpleNamespace(step=step, losses={"total": [0.1] * step}), {})
    assert texts[-1] == f"step {before + 3} of {total}, loss 0.1000, {left}"
    assert bar == list(range(before + (resumed or 0), before + 4)), "the bar never jumps back"

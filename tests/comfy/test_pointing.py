"""Track Video with a box or clicks: the points lie on what was pointed at."""

from __future__ import annotations

import json

import pytest
import torch

HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def two_movers() -> torch.Tensor:
    """Two patterned squares that move apart before a patterned background, (9, 96, 160, 3)."""
    generator = torch.Generator().manual_seed(0)

    def pattern(rows: int, columns: int, low: float) -> torch.Tensor:
        cells = torch.rand(rows // 4, columns // 4, 3, generator=generator) * 0.4 + low
        return cells.repeat_interleave(4, 0).repeat_interleave(4, 1)

    background, left, right = pattern(HEIGHT, WIDTH, 0.0), pattern(24, 24, 0.6), pattern(24, 24, 0.6)
    frames = []
    for t in range(9):
        frame = background.clone()
        frame[30 : 30 + 24, 40 - 3 * t : 64 - 3 * t] = left
        frame[40 : 40 + 24, 96 + 3 * t : 120 + 3 * t] = right
        frames.append(frame)
    return torch.stack(frames)


def starts(frames, **where) -> torch.Tensor:
    """(N, 2) px where the points begin."""
    from det_pack.nodes.track import DeTTrackVideo

    return DeTTrackVideo.execute(frames, 30, "dis", 0, **where).result[0]["track_path"][0]


def test_pointing_chooses_among_what_moves(pack, two_movers, tmp_path, monkeypatch):
    import folder_paths

    said: list[str] = []
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    monkeypatch.setattr("det_pack.nodes.track.say", said.append)
    both = starts(two_movers)
    assert "Look at the points" in said.pop(), "found by its motion: the artist is asked to look"
    assert both[:, 0].min() < 70 and both[:, 0].max() > 90
    box = {"x": 0, "y": 0, "width": 75, "height": HEIGHT}
    for given in (box, [box], [[box]]):
        assert starts(two_movers, box=given)[:, 0].max() < 75
    assert starts(two_movers, clicks=json.dumps([{"x": 108, "y": 52}]))[:, 0].min() > 85
    assert torch.equal(starts(two_movers, box=[], clicks=""), both)
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 40:64, 96:120] = 1
    assert starts(two_movers, mask=mask, box=box)[:, 0].min() > 85  # a mask counts first
    assert len(said) == 1, "who pointed is not asked: the one word is for an empty box"


def test_a_mask_on_a_clip_in_which_the_subject_is_looked_for_again(pack, tmp_path, monkeypatch):
    import folder_paths
    from det_pack.nodes.track import DeTTrackVideo
    from test_found_again import HEIGHT, SIDE, WIDTH, square_over

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    left = 10 + 4 * torch.arange(20)
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 33 : 33 + SIDE, 10 : 10 + SIDE] = 1
    for what in ("subject", "both"):
        tracks = DeTTrackVideo.execute(square_over(left), 30, "lk", 0, mask=mask, what_moves=what).result[0]
        subject = ~tracks.get("still", torch.zeros(tracks["track_path"].shape[1], dtype=torch.bool))
        first, last = tracks["track_path"][0, subject], tracks["track_path"][-1, subject]
        started = tracks["query_frames"][subject] == 0
        assert ((first[started, 0] >= 10) & (first[started, 0] <= 10 + SIDE)).all()
        assert (last[:, 0] - first[:, 0])[started].median() > 60, "they follow the square"


@pytest.mark.parametrize(
    "where, message",
    [
        ({"box": {"x": 500, "y": 0, "width": 9, "height": 9}}, "lies outside the picture of 160x96"),
        ({"box": {"left": 3}}, "no bounding box"),
        ({"clicks": "here"}, "clicks are JSON"),
        ({"clicks": '[{"x": 999, "y": 1}]'}, "lies outside the picture"),
    ],
)
def test_bad_pointing_is_refused(pack, two_movers, where, message):
    with pytest.raises(ValueError, match=message):
        starts(two_movers, **where)


def test_what_moves_is_tracked_and_scored_apart(pack, two_movers, tmp_path, monkeypatch):
    import folder_paths
    from det_pack.nodes.evaluate import DeTEvaluateMotion
    from det_pack.nodes.track import DeTTrackVideo

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))

    def tracks(what: str) -> dict:
        return DeTTrackVideo.execute(two_movers, 30, "dis", 0, what_moves=what).result[0]

    both = tracks("both")
    assert both["still"].sum() == 15 == (~both["still"]).sum()
    assert tracks("camera")["still"].all() and "still" not in tracks("subject")
    report = DeTEvaluateMotion.execute(both, two_movers, "strict").result[2].split("\n")
    told = {name: float(score) for name, score in (line.split(": ") for line in report[-3:])}
    assert list(told) == ["camera", "subject", "subject against its camera"]
    assert min(told.values()) > 0.9
    with pytest.raises(ValueError, match="reads one shape and no camera"):
        DeTTrackVideo.execute(two_movers, 30, "sprite", 0, what_moves="camera")

"""What cannot be right is refused in one line, before any work."""

import numpy as np
import pytest
import torch
from field_job import job, refused

from det_core.media.video import write_video

# ------------------------------------------------------------------------------------------- refused before any work


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sample-steps", "0"], "whole number of 1 or more"),
        (["--sample-steps", "-1"], "sample-steps"),
        (["--steps", "0"], "whole number of 1 or more"),
        (["--cfg", "nan"], "finite"),
        (["--cfg", "-1"], "cfg"),
        (["--strength", "nan"], "finite"),
        (["--strength", "inf"], "finite"),
        (["--seed", "1.5"], "whole number"),
        (["--seed", str(2**63)], "whole number"),
        (["--size", "64"], "HEIGHTxWIDTH"),
        (["--size", "63x64"], "multiples of"),
        (["--size", "96x96"], "draws 64x64 pixels"),
        (["--preset", "low_vram", "--checkpoint", "none"], "leave out --checkpoint none"),
        (["--frames", "1"], "one frame has no motion"),
        (["--frames", "100"], "has 12"),
        (["--drop", "1.5"], "share between 0"),
        (["--drop", "0.5", "--keep", "1"], "not allowed with"),
        (["--keep", "99"], "block 99"),
        (["--device", "gpu0"], "use cpu, cuda"),
        (["--device", "meta"], "use cpu, cuda"),
        (["--device", "cuda:99"], "there is no cuda:99 here"),
        (["--clip", "no_such_folder"], "no_such_folder"),
        (["--dino", "no_such_folder"], "no_such_folder"),
        (["--tracker", "magic"], "magic"),
        (["--model", "no_such_folder"], "no_such_folder"),
        (["--mask", "no_such_mask.png"], "no such mask"),
    ],
)
def test_numbers_and_names_that_cannot_be_right(field, tmp_path, capsys, idle, more, message):
    line = refused(capsys, *job(field, tmp_path / "out", "--prompt", "a", *more))
    assert message in line
    assert not (tmp_path / "out" / "tracks.mp4").exists()


def test_a_device_that_is_not_there(field, tmp_path, capsys, idle):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = refused(capsys, *job(field, tmp_path, "--prompt", "a", "--device", "cuda"))
    assert "there is no cuda here, only cpu" in line


def test_an_adapter_is_written_to_a_file(field, tmp_path, capsys, idle):
    (tmp_path / "done").mkdir()
    words = ["train", "--video", field / "plain.mp4", "--steps", 1, "--out"]
    assert "is a folder: name a file" in refused(capsys, *words, f"{tmp_path / 'done'}/")
    assert "ends in .safetensors" in refused(capsys, *words, tmp_path / "dance.pth")
    assert "unfinished trainings" in refused(capsys, *words, tmp_path / "a.state.safetensors")
    assert "bytes" in refused(capsys, *words, tmp_path / f"{'a' * 240}.safetensors")


def test_a_folder_of_pictures_is_no_video(field, tmp_path, capsys, idle):
    (tmp_path / "pictures").mkdir()
    line = refused(capsys, *job(tmp_path, tmp_path / "out", "--prompt", "a", video="pictures"))
    assert "is a folder" in line


def test_a_clip_of_one_frame(field, tmp_path, capsys, idle):
    write_video(tmp_path / "still.mp4", torch.rand(1, 64, 64, 3), 8)
    (tmp_path / "plain.png").write_bytes((field / "plain.png").read_bytes())
    line = refused(capsys, *job(tmp_path, tmp_path / "out", "--prompt", "a", video="still.mp4"))
    assert "use a longer clip" in line and "1 frames" not in line


def test_tracks_in_pixels_and_tracks_of_text(field, tmp_path, capsys, idle):
    np.savez(tmp_path / "pixels.npz", points=300 * np.random.rand(9, 12, 2), visible=np.ones((9, 12)))
    np.savez(tmp_path / "text.npz", points=np.array([["a"]]), visible=np.array([["b"]]))
    words = job(field, tmp_path / "out", "--prompt", "a", "--tracks")
    assert "pixels" in refused(capsys, *words, tmp_path / "pixels.npz")
    assert "text.npz" in refused(capsys, *words, tmp_path / "text.npz")


def test_what_is_carried_over_leaves_no_other_choice(capsys, field, tmp_path):
    words = ("transfer", "--video", field / "plain.mp4", "--prompt", "a", "--out", tmp_path / "out", "--carry")
    for more in (["--frames", 9], ["--tracker", "lk"]):
        line = refused(capsys, *words, "still", *more)
        assert "leave out --tracks, --tracker, --frames, --size, --fps, --longer" in line
    assert "invalid choice: 'dance'" in refused(capsys, *words, "dance")

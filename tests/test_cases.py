"""What users of this field really give and ask: odd clips, masks, names, numbers. Nothing is lost, nothing is silent,
and a mistake is one line, before any work."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import det_core.cli.transfer
from det_core.cli.main import main
from det_core.files import slug
from det_core.media.video import VideoFile, read_video, write_video
from det_core.models.base_model import base_model_spec
from det_core.source import SourceFiles, load_source
from det_core.tracking.tracks import Tracks
from det_core.transfer import video_name

SHORT = ["--steps", 1, "--sample-steps", 1]


def disc_clip(frames: int = 24, jumps: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A disc of a texture of its own over noise, from the upper left to the lower right, so often; its first mask."""
    g = torch.Generator().manual_seed(0)
    background = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 40, generator=g), (96, 160))[0].permute(1, 2, 0)
    paint = torch.rand(96, 160, 3, generator=g)
    y, x = torch.meshgrid(torch.arange(96), torch.arange(160), indexing="ij")
    clip, first = [], None
    for _ in range(jumps):
        for t in range(frames):
            inside = (x - 30 - 3 * t) ** 2 + (y - 25 - 1.5 * t) ** 2 < 14**2
            first = inside if first is None else first
            shifted = paint.roll((round(1.5 * t), 3 * t), (0, 1)) * torch.tensor([1.0, 0.6, 0.2])
            clip.append(torch.where(inside[..., None], shifted, background))
    return torch.stack(clip), first


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Path:
    """A folder with plain.mp4 (24 frames a second), its mask plain.png, and loop.mp4, five times the same in 5 s."""
    folder = tmp_path_factory.mktemp("field")
    for name, jumps in (("plain", 1), ("loop", 5)):
        frames, mask = disc_clip(jumps=jumps)
        write_video(folder / f"{name}.mp4", frames, 24)
    big = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)  # small videos are written larger
    Image.fromarray(255 * big.numpy().astype(np.uint8)).save(folder / "plain.png")
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def job(field: Path, out: Path, *more: object, command: str = "transfer", video: str = "plain.mp4") -> list[object]:
    return [command, "--video", field / video, "--mask", field / "plain.png", *SHORT, "--out", out, *more]


def refused(capsys, *words: object) -> str:
    """The one line of a command that does nothing else."""
    assert run(*words) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]


@pytest.fixture
def idle(monkeypatch):
    """Whatever loads a model or tracks before it refuses fails the test."""

    def worked(*_args, **_kwargs):
        raise AssertionError("work was done before this was refused")

    for module in ("transfer", "train", "sample"):
        monkeypatch.setattr(f"det_core.cli.{module}.load_base_model", worked)
    monkeypatch.setattr("det_core.source.track_subject", worked)


# ------------------------------------------------------------------------------------------- what is made


@pytest.fixture(scope="module")
def looped(field, tmp_path_factory) -> tuple[Path, str]:
    """The outcome of a clip whose every point is lost between two chosen frames, and what was said."""
    out, said = tmp_path_factory.mktemp("looped"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    try:
        more = ["--prompt", "猫が雪の上で踊る", "--prompt", "犬が走る", "--cfg", 0, "--resume"]
        words = job(field, out, *more, video="loop.mp4")
        assert run(*words) == 0
    finally:
        logging.getLogger().removeHandler(handler)
    return out, "\n".join(said)


def test_what_cannot_be_measured_is_null_and_nothing_is_lost(field, tmp_path):
    """Points that are seen in the first frame only: every file is there, the score is null, and the reason is said."""
    queries = torch.rand(20, 1, 2).expand(-1, 24, -1)
    visible = torch.zeros(20, 24)
    visible[:, 0] = 1
    Tracks(queries, visible).save(tmp_path / "hidden.npz")
    out = tmp_path / "out"
    assert run(*job(field, out, "--prompt", "a cat", "--tracks", tmp_path / "hidden.npz")) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mean"]["det"]["motion_fidelity"] is None
    assert metrics["prompts"][0]["not_measured"]["det"]["motion_fidelity"]
    for name in ("a-cat-seed0.mp4", "without-adapter/a-cat-seed0.mp4", "contact_sheet.png", "adapter.safetensors"):
        assert (out / name).is_file()


def test_a_measure_that_fails_costs_nothing_else(field, tmp_path, monkeypatch):
    class Broken:
        description = "broken"

        def measure(self, *_):
            raise RuntimeError("the network\nis gone")

    monkeypatch.setattr(det_core.cli.transfer, "ruler_for", lambda *_: Broken())
    assert run(*job(field, tmp_path, "--prompt", "a cat")) == 0
    (video,) = json.loads((tmp_path / "metrics.json").read_text())["prompts"]
    assert video["not_measured"]["base"] == dict.fromkeys(video["base"], "the network is gone")
    assert set(video["base"].values()) == {None} and (tmp_path / video["video"]).is_file()


def test_each_video_is_written_when_it_is_made(field, tmp_path, monkeypatch):
    """Stopped after the first of two: it is there."""
    made = []

    def stop_after_one(path, frames, fps):
        write_video(path, frames, fps)
        made.append(path)
        if "seed" in path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr("det_core.transfer.write_video", stop_after_one)
    assert run(*job(field, tmp_path, "--prompt", "a cat", "--prompt", "a dog")) == 130
    assert [path.name for path in made] == ["tracks.mp4", "a-cat-seed0.mp4"]
    assert (tmp_path / "adapter.safetensors").is_file()


def test_thinned_frames_play_at_the_clips_speed(looped):
    """Nine of 120 frames of five seconds."""
    out, _ = looped
    for path in (out / "tracks.mp4", *out.glob("*seed*.mp4")):
        file = VideoFile.open(path)
        assert file.frames == 9 and 4 <= file.frames / file.fps <= 5
    from det_core.adapter.motion_adapter import MotionAdapter

    source = json.loads(MotionAdapter.load(out / "adapter.safetensors").metadata["source"])
    assert 4 <= source["frames"] / source["fps"] <= 5


def test_guidance_0_is_recorded_and_rows_are_numbered(looped):
    metrics = json.loads((looped[0] / "metrics.json").read_text())
    assert metrics["config"]["cfg"] == 0
    assert [p["number"] for p in metrics["prompts"]] == [1, 2]
    assert all((looped[0] / p["video"]).is_file() for p in metrics["prompts"])


def test_nothing_to_resume_is_said(looped):
    assert "nothing to resume" in looped[1]


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "prompts",
    [
        ["A cat!", "a cat?", "a  Cat", "a cat"],
        ["🐼", "🐶", "", " ", "-"],
        ["\U0001d4ea" * 60, "\U0001d4ea" * 61, "猫" * 60],
        ["Straße", "strasse", "cafe\u0301", "caf\u00e9", "\udcff"],
    ],
)
def test_no_two_prompts_share_a_file(prompts):
    names = [video_name(prompt, 3) for prompt in prompts]
    assert len({name.casefold() for name in names}) == len(prompts)
    assert all(name[0].isalnum() and len(name.encode()) <= 200 for name in names)


def test_a_plain_prompt_is_its_own_name():
    assert slug("a green star on a teal striped background") == "a-green-star-on-a-teal-striped-background"


def test_what_is_given_twice_is_made_once(field, tmp_path, caplog):
    more = ["--prompt", "a", "--prompt", "a", "--seed", 3, 3]
    with caplog.at_level(logging.WARNING):
        assert run(*job(field, tmp_path, *more)) == 0
    assert len(list(tmp_path.glob("*seed*.mp4"))) == 1 and "given twice" in caplog.text


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
        (["--frames", "1"], "one frame has no motion"),
        (["--frames", "100"], "has 24"),
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
    np.savez(tmp_path / "pixels.npz", points=300 * np.random.rand(9, 24, 2), visible=np.ones((9, 24)))
    np.savez(tmp_path / "text.npz", points=np.array([["a"]]), visible=np.array([["b"]]))
    words = job(field, tmp_path / "out", "--prompt", "a", "--tracks")
    assert "pixels" in refused(capsys, *words, tmp_path / "pixels.npz")
    assert "text.npz" in refused(capsys, *words, tmp_path / "text.npz")


def test_an_adapter_stored_in_fp8(looped, tmp_path, capsys, idle):
    from safetensors import safe_open

    with safe_open(looped[0] / "adapter.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key).to(torch.float8_e4m3fn) for key in file.keys()}
        metadata = file.metadata()
    save_file(tensors, tmp_path / "fp8.safetensors", metadata)
    words = ["sample", "--adapter", tmp_path / "fp8.safetensors", "--prompt", "a", "--out", tmp_path]
    line = refused(capsys, *words)
    assert "fp8" in line.lower().replace("f8_e4m3", "fp8") and "damaged" not in line


# ----------------------------------------------------------------------------------------- said, and done all the same


def test_a_folder_of_clip_is_not_used_with_the_embedded_model(field, tmp_path, caplog):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "clip" / "preprocessor_config.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert run(*job(field, tmp_path / "out", "--prompt", "a", "--clip", tmp_path / "clip")) == 0
    assert "--clip is not used" in caplog.text


def test_an_inverted_mask_is_said(field, tmp_path, caplog):
    inverted = 255 - np.array(Image.open(field / "plain.png"))
    Image.fromarray(inverted).save(tmp_path / "inverted.png")
    words = ["track", "--video", field / "plain.mp4", "--mask", tmp_path / "inverted.png", "--tracker", "lk"]
    with caplog.at_level(logging.WARNING):
        assert run(*words, "--out", tmp_path / "t.npz") == 0
    assert "of the picture as the subject" in caplog.text and len(read_video(tmp_path / "t.mp4").frames) == 24


def test_an_unfinished_training_is_not_replaced_without_a_word(field, tmp_path, caplog):
    words = [
        "train",
        "--video",
        field / "plain.mp4",
        "--mask",
        field / "plain.png",
        "--out",
        tmp_path / "a.safetensors",
    ]
    assert run(*words, "--steps", 1) == 0
    from det_core.training.state import TrainState

    state = TrainState.load(tmp_path / "a.state.safetensors")
    state.config["steps"] = 5
    state.save(tmp_path / "a.state.safetensors")
    with caplog.at_level(logging.WARNING):
        assert run(*words, "--steps", 5) == 0
    assert "unfinished training" in caplog.text and "at step 1" in caplog.text


def test_a_real_video_is_carried_over_to_the_embedded_model(tmp_path):
    frames, mask = disc_clip(frames=8)
    write_video(tmp_path / "real.mp4", frames, 24)
    big = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)
    Image.fromarray(255 * big.numpy().astype(np.uint8)).save(tmp_path / "mask.png")
    spec = base_model_spec("embedded")
    source = load_source(SourceFiles(tmp_path / "real.mp4", tmp_path / "mask.png", carry="picture"), spec)
    assert source.caption == "a red circle on a navy plain background"
    assert source.pixels.shape == source.frames.shape == (9, 64, 64, 3) and source.fps == pytest.approx(24 * 8 / 7)
    travelled = source.tracks.points[0, -1] - source.tracks.points[0, 0]
    assert travelled[0] > 0.08 and travelled[1] > 0.06  # the disc goes 21 of 160 px right and 10.5 of 96 down


def test_what_is_carried_over_leaves_no_other_choice(capsys, field, tmp_path):
    words = ("transfer", "--video", field / "plain.mp4", "--prompt", "a", "--out", tmp_path / "out", "--carry")
    assert "leave out --tracks, --frames and --size" in refused(capsys, *words, "still", "--frames", 9)
    assert "invalid choice: 'dance'" in refused(capsys, *words, "dance")

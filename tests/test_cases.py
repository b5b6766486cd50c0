"""What users of this field really give and ask: odd clips, masks, names, numbers. Nothing is lost, nothing is silent,
and a mistake is one line, before any work."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from field_job import disc_clip, job, refused, run, tracked_job
from PIL import Image
from safetensors.torch import save_file

import det_core.cli.transfer
from det_core.files import slug
from det_core.media.video import VideoFile, read_video, write_video
from det_core.models.base_model import base_model_spec
from det_core.source import SourceFiles, load_source
from det_core.tracking.tracks import Tracks
from det_core.transfer import video_name

# ------------------------------------------------------------------------------------------- what is made


@pytest.fixture(scope="module")
def looped(field, tmp_path_factory) -> tuple[Path, str]:
    """The outcome of a clip that starts again twice, and what was said."""
    out, said = tmp_path_factory.mktemp("looped"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    try:
        more = ["--prompt", "猫が雪の上で踊る", "--prompt", "犬が走る", "--cfg", 0, "--resume", "--tracker", "lk"]
        words = job(field, out, *more, video="loop.mp4")
        assert run(*words) == 0
    finally:
        logging.getLogger().removeHandler(handler)
    return out, "\n".join(said)


def test_what_cannot_be_measured_is_null_and_nothing_is_lost(field, tmp_path):
    """Points that are seen in the first frame only: every file is there, the score is null, and the reason is said."""
    queries = torch.rand(20, 1, 2, generator=torch.Generator().manual_seed(0)).expand(-1, 12, -1)
    visible = torch.zeros(20, 12)
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
    assert run(*tracked_job(field, tmp_path, "--prompt", "a cat")) == 0
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
    assert run(*tracked_job(field, tmp_path, "--prompt", "a cat", "--prompt", "a dog")) == 130
    assert [path.name for path in made] == ["tracks.mp4", "a-cat-seed0.mp4"]
    assert (tmp_path / "adapter.safetensors").is_file()


def test_thinned_frames_play_at_the_clips_speed(looped):
    """Nine of 36 frames of five seconds."""
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
        assert run(*tracked_job(field, tmp_path, *more)) == 0
    assert len(list(tmp_path.glob("*seed*.mp4"))) == 1 and "given twice" in caplog.text


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
        assert run(*tracked_job(field, tmp_path / "out", "--prompt", "a", "--clip", tmp_path / "clip")) == 0
    assert "--clip is not used" in caplog.text


def test_an_inverted_mask_is_said(field, tmp_path, caplog):
    inverted = 255 - np.array(Image.open(field / "plain.png"))
    Image.fromarray(inverted).save(tmp_path / "inverted.png")
    words = ["track", "--video", field / "plain.mp4", "--mask", tmp_path / "inverted.png", "--tracker", "lk"]
    with caplog.at_level(logging.WARNING):
        assert run(*words, "--out", tmp_path / "t.npz") == 0
    assert "of the picture as the subject" in caplog.text and len(read_video(tmp_path / "t.mp4").frames) == 12


def test_an_unfinished_training_is_not_replaced_without_a_word(field, tmp_path, caplog):
    words = [
        "train",
        "--video",
        field / "plain.mp4",
        "--tracks",
        field / "plain.npz",
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


@pytest.mark.slow
@pytest.mark.parametrize("model", ["embedded", "embedded-world"])
def test_a_real_video_is_carried_over_to_the_embedded_models(tmp_path, model):
    frames, mask = disc_clip(frames=8)
    write_video(tmp_path / "real.mp4", frames, 24)
    big = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)
    Image.fromarray(255 * big.numpy().astype(np.uint8)).save(tmp_path / "mask.png")
    spec = base_model_spec(model)
    source = load_source(SourceFiles(tmp_path / "real.mp4", tmp_path / "mask.png", carry="picture"), spec)
    assert source.caption == "a red circle on a navy plain background"
    assert source.pixels.shape == source.frames.shape == (9, 64, 64, 3) and source.fps == pytest.approx(24 * 8 / 7)
    travelled = source.tracks.points[0, -1] - source.tracks.points[0, 0]
    assert travelled[0] > 0.08 and travelled[1] > 0.06  # the disc goes 21 of 160 px right and 10.5 of 96 down

"""`python -m det_core` as a user meets it: the whole job, resuming, Ctrl-C, and one clear line for every mistake."""

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.cli import sample as cli_sample
from det_core.cli.main import main
from det_core.guidance.reference import MotionReference
from det_core.media.card import picture_of
from det_core.media.video import read_video, write_video
from det_core.models.base_model import base_model_spec
from det_core.models.embedded.corpus import Scene, make_clip
from det_core.models.families import DiTSpec

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a green star on a teal striped background"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "loop.mp4"
    made = make_clip(Scene("red", "circle", "navy", "plain"), "loop", torch.Generator().manual_seed(3))
    write_video(path, made.frames, 8.0)
    return path


@pytest.fixture(scope="module")
def finished(clip, tmp_path_factory) -> Path:
    """The outcome of a very short transfer."""
    out = tmp_path_factory.mktemp("transfer")
    arguments = [
        "transfer",
        "--video",
        str(clip),
        "--prompt",
        PROMPT,
        "--prompt",
        "a cyan square on a grey plain background",
    ]
    assert main([*arguments, "--seed", "0", "1", "--steps", "3", "--sample-steps", "2", "--out", str(out)]) == 0
    return out


def test_transfer_writes_everything(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert [(p["prompt"], p["seed"]) for p in metrics["prompts"]] == [
        (prompt, seed) for prompt in (PROMPT, "a cyan square on a grey plain background") for seed in (0, 1)
    ]
    for row in ("base", "det"):
        assert set(metrics["mean"][row]) == {"motion_fidelity", "coverage", "edit_fidelity", "temporal_consistency"}
        assert all(set(p[row]) == set(metrics["mean"][row]) for p in metrics["prompts"])
    assert set(metrics["seconds"]) == {"track", "train", "sample", "total"}
    assert metrics["tracker"] == "sprite" and metrics["model"] == "embedded"
    assert metrics["config"]["steps"] == 3 and metrics["config"]["tracking_weight"] == 0.1
    videos = sorted(p.name for p in finished.glob("*seed*.mp4"))
    assert len(videos) == 4 and "a-green-star-on-a-teal-striped-background-seed1.mp4" in videos
    assert len(read_video(finished / videos[0]).frames) == 9
    for picture in ("contact_sheet.png", "loss.png"):
        assert (finished / picture).read_bytes()[:4] == b"\x89PNG"
    assert len(read_video(finished / "tracks.mp4").frames) == 9


@pytest.mark.parametrize("guide", ["only", "beside"])
def test_transfer_guided_by_the_source(clip, tmp_path, guide, caplog):
    arguments = ["transfer", "--video", str(clip), "--prompt", PROMPT, "--guide", guide, "--out", str(tmp_path)]
    assert main([*arguments, "--sample-steps", "5", "--steps", "1", "--resume", "--drop", "0"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["mean"]) == ["base", "guided", *(["det"] if guide == "beside" else [])]
    assert ("--resume, --steps, --drop: not used, nothing is trained" in caplog.text) == (guide == "only")
    assert metrics["mean"]["guided"]["motion_fidelity"] > metrics["mean"]["base"]["motion_fidelity"] + 0.2
    assert MotionReference.load(tmp_path / "reference.safetensors").base_model == "embedded"
    assert (tmp_path / "adapter.safetensors").exists() == (guide == "beside")
    video = metrics["prompts"][0]["video"]
    folders = {path.parent.name for path in tmp_path.rglob(video)}
    assert folders == {tmp_path.name, "without-adapter", *(["guided"] if guide == "beside" else [])}


def test_the_adapter_describes_itself(finished):
    adapter = MotionAdapter.load(finished / "adapter.safetensors")
    source = json.loads(adapter.metadata["source"])
    assert source["name"] == "loop.mp4" and source["frames"] == 9 and len(source["sha256"]) == 16
    assert json.loads(adapter.metadata["config"])["steps"] == 3
    assert adapter.metadata["modelspec.title"] == "loop" and picture_of(adapter.metadata).size == (5 * 128, 128)
    assert adapter.keep == [0, 1, 2]


def test_sample_with_the_trained_adapter(finished, tmp_path, capsys):
    arguments = [
        "sample",
        "--adapter",
        str(finished / "adapter.safetensors"),
        "--prompt",
        PROMPT,
        "--sample-steps",
        "2",
    ]
    assert main([*arguments, "--seed", "1", "--keep", "0-2", "--out", str(tmp_path)]) == 0
    path = Path(capsys.readouterr().out.strip())
    again, before = read_video(path).frames, read_video(finished / path.name).frames
    other = read_video(finished / path.name.replace("seed1", "seed0")).frames
    # transfer samples four videos at a time, sample one: the same but for rounding
    assert (again.int() - before.int()).abs().float().mean() < 0.5
    assert (again.int() - other.int()).abs().float().mean() > 5


def test_track_and_evaluate(clip, tmp_path, capsys):
    assert main(["track", "--video", str(clip), "--out", str(tmp_path / "tracks.npz")]) == 0
    assert (
        main(["evaluate", "--source", str(tmp_path / "tracks.npz"), "--generated", str(tmp_path / "tracks.npz")]) == 0
    )
    text = capsys.readouterr().out
    scores = json.loads(text[text.index("{") :])
    assert scores["motion_fidelity"] == pytest.approx(1.0)
    assert scores["edit_fidelity"] is None


@pytest.mark.slow
def test_resume_continues_where_a_killed_run_stopped(clip, tmp_path):
    """Ctrl-C keeps the last whole step; --resume ends with the very adapter of an undisturbed run."""
    arguments = ["train", "--video", str(clip), "--steps", "12"]
    command = [sys.executable, "-m", "det_core", *arguments, "--out", str(tmp_path / "a.safetensors")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in iter(lambda: process.stderr.read(40), ""):
        if "/12 [" in line and "0/12 [" not in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130 and "continue with --resume" in stderr
    assert MotionAdapter.load(tmp_path / "a.safetensors").metadata["steps"] != "12"
    assert main([*arguments, "--out", str(tmp_path / "a.safetensors"), "--resume"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "b.safetensors")]) == 0
    a, b = MotionAdapter.load(tmp_path / "a.safetensors"), MotionAdapter.load(tmp_path / "b.safetensors")
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def failure(capsys, *arguments: object) -> str:
    """Run a command that must fail fast with one line; returns that line."""
    started = time.monotonic()
    assert main([str(a) for a in arguments]) == 1
    assert time.monotonic() - started < 60
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_bad_videos(capsys, tmp_path, clip):
    out = ["--prompt", PROMPT, "--out", tmp_path / "out"]
    assert "no such video" in failure(capsys, "transfer", "--video", tmp_path / "none.mp4", *out).lower()
    (tmp_path / "text.mp4").write_text("not a video")
    assert "text.mp4" in failure(capsys, "transfer", "--video", tmp_path / "text.mp4", *out)
    write_video(tmp_path / "short.mp4", torch.rand(4, 64, 64, 3), 8.0)
    line = failure(capsys, "transfer", "--video", tmp_path / "short.mp4", *out)
    assert "9" in line and "4" in line
    assert "HEIGHTxWIDTH" in failure(capsys, "transfer", "--video", clip, "--size", "big", *out)


def test_bad_masks_and_tracks(capsys, tmp_path, clip):
    from PIL import Image

    out = ["--prompt", PROMPT, "--out", tmp_path / "out"]
    Image.new("L", (64, 64), 0).save(tmp_path / "empty.png")
    assert "empty" in failure(capsys, "transfer", "--video", clip, "--mask", tmp_path / "empty.png", *out)
    from det_core.tracking.tracks import Tracks

    Tracks(torch.rand(3, 5, 2), torch.ones(3, 5)).save(tmp_path / "five.npz")
    line = failure(capsys, "transfer", "--video", clip, "--tracks", tmp_path / "five.npz", *out)
    assert "5 frames" in line and "9" in line
    Tracks(torch.rand(3, 9, 2), torch.zeros(3, 9)).save(tmp_path / "hidden.npz")
    assert "visible" in failure(capsys, "transfer", "--video", clip, "--tracks", tmp_path / "hidden.npz", *out)


def test_bad_adapters_and_blocks(capsys, tmp_path, finished):
    out = ["--prompt", PROMPT, "--out", tmp_path / "out"]
    whole = (finished / "adapter.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "half.safetensors" in failure(capsys, "sample", "--adapter", tmp_path / "half.safetensors", *out)
    (tmp_path / "hostile.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "hostile.pth" in failure(capsys, "sample", "--adapter", tmp_path / "hostile.pth", *out)
    adapter = MotionAdapter.load(finished / "adapter.safetensors")
    adapter.base_model = "wan"
    adapter.save(tmp_path / "wan.safetensors")
    line = failure(capsys, "sample", "--adapter", tmp_path / "wan.safetensors", *out)
    assert "wan" in line and "embedded" in line
    good = ["sample", "--adapter", finished / "adapter.safetensors", *out]
    assert '"3-99" asks for block 99, but this model has blocks 0 to 7' in failure(capsys, *good, "--keep", "3-99")
    assert "a-b" in failure(capsys, *good, "--keep", "a-b")
    assert "--drop" in failure(capsys, *good, "--drop", "1.5")


def test_blocks_that_the_adapter_has_not_are_refused_before_the_model_is_loaded(
    capsys, tmp_path, finished, monkeypatch
):
    adapter = MotionAdapter.load(finished / "adapter.safetensors")
    del adapter.blocks["1"]
    adapter.save(tmp_path / "few.safetensors")
    monkeypatch.setattr(cli_sample, "load_base_model", None)
    words = ["sample", "--adapter", tmp_path / "few.safetensors", "--prompt", PROMPT, "--out", tmp_path / "out"]
    assert "no block 1 to keep" in failure(capsys, *words, "--keep", "0-2")


def test_what_a_console_cannot_show_stops_nothing(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    main(["evaluate"])
    print("\u732b.mp4", flush=True)
    assert b"u732b.mp4" in shown.getvalue()


class TestAnAdapterThatSaysLittle:
    """As released code, or a program that knew no frame rate, wrote it: its own blocks, the model's own rate."""

    @pytest.fixture
    def known(self, finished, tmp_path, monkeypatch) -> dict:
        """What `sample` gives on to `generate` and to the writer of videos."""
        told = {}
        adapter = MotionAdapter.load(finished / "adapter.safetensors")
        del adapter.blocks["1"], adapter.metadata["source"]
        adapter.save(tmp_path / "few.safetensors")
        monkeypatch.setattr(cli_sample, "base_model_spec", lambda _: at_24_frames(base_model_spec("embedded")))
        monkeypatch.setattr(cli_sample, "generate", lambda *args, **_: told.update(keep=args[4].keep) or ["frames"])
        monkeypatch.setattr(cli_sample, "write_video", lambda path, frames, fps: told.update(fps=fps))
        main(
            ["sample", "--adapter", str(tmp_path / "few.safetensors"), "--prompt", PROMPT, "--drop", "0.5"]
            + ["--out", str(tmp_path / "out")]
        )
        return told

    def test_plays_at_the_models_rate(self, known):
        assert known["fps"] == 24.0

    def test_drops_of_the_blocks_it_has(self, known):
        assert known["keep"] == [0, 2, 3]


def at_24_frames(spec: DiTSpec) -> DiTSpec:
    return replace(spec, defaults=replace(spec.defaults, fps=24.0))


def test_bad_models_and_folders(capsys, tmp_path, clip):
    out = ["--prompt", PROMPT, "--out", tmp_path / "out"]
    assert "model_index.json" in failure(capsys, "transfer", "--video", clip, "--model", tmp_path, *out)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert "StableDiffusionPipeline" in failure(capsys, "transfer", "--video", clip, "--model", tmp_path, *out)
    (tmp_path / "file").write_text("")
    assert "file" in failure(
        capsys, "transfer", "--video", clip, "--prompt", PROMPT, "--out", tmp_path / "file" / "out"
    )


def test_resuming_other_settings_is_refused(capsys, clip, finished):
    line = failure(
        capsys,
        "transfer",
        "--video",
        clip,
        "--prompt",
        PROMPT,
        "--seed",
        "5",
        "--steps",
        "3",
        "--resume",
        "--out",
        finished,
    )
    assert "seed 0 -> 5" in line


@pytest.mark.slow
def test_a_real_clip_runs_end_to_end(shared_data, tmp_path):
    case = shared_data / "mtbench" / "dance-twirl"
    arguments = [
        "transfer",
        "--video",
        case / "dance-twirl.mp4",
        "--mask",
        case / "masks" / "00000.png",
        "--tracker",
        "dis",
    ]
    arguments += ["--caption", "a white square on a grey plain background", "--prompt", PROMPT]
    assert main([str(a) for a in [*arguments, "--steps", "2", "--sample-steps", "2", "--out", tmp_path]]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["tracker"] == "dis"
    assert len(read_video(tmp_path / "tracks.mp4").frames) == 9

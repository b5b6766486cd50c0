"""On the command line, as in ComfyUI: which frames of the video are used, and which part of the noise is looked at."""

import json
import re
from pathlib import Path

import pytest
import torch
from test_cli import PROMPT, failure
from tiny_dits import build
from tiny_pipelines import PIPELINES

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.cli.main import main
from det_core.media.video import write_video
from det_core.models.families import spec_for
from det_core.models.identity import KEY, Identity, identity_of
from det_core.models.noise import learning, span_of
from det_core.source import SourceFiles, frames_used, load_source

SPEC = spec_for(build("cogvideox"))  # 8 frames a second


def used(available: int, source_fps: float, frames: int, **asked):
    return frames_used(SourceFiles(Path("clip.mp4"), frames=frames, **asked), available, source_fps, SPEC)


def test_without_a_wish_frames_are_chosen_as_the_papers_code_does():
    chosen = used(98, 24.0, 49)
    assert (chosen.frames, chosen.fps, chosen.said) == (tuple(range(0, 98, 2)), 12.0, "one frame in 2")
    assert used(97, 24.0, 49).frames == tuple(range(49)) and used(97, 24.0, 49).said == ""


def test_a_rate_is_the_models_or_ones_own_and_the_rest_is_cut_or_thinned():
    model = used(98, 24.0, 13, fps=0.0)
    assert (model.frames, model.fps) == (tuple(range(0, 39, 3)), 8.0)
    assert model.said == "24 frames a second became 8, the last 20 cut off"
    thin = used(98, 24.0, 13, fps=0.0, longer="thin")
    assert (thin.frames, thin.fps) == (tuple(range(0, 75, 6)), 4.0)
    assert used(98, 24.0, 13, fps=12.0).frames == tuple(range(0, 26, 2))


def test_a_longer_clip_is_cut_or_thinned_at_its_own_rate():
    cut, thin = used(97, 24.0, 49, longer="cut"), used(97, 24.0, 49, longer="thin")
    assert (cut.frames, cut.fps, cut.said) == (tuple(range(49)), 24.0, "the last 48 cut off")
    assert (thin.frames, thin.fps, thin.said) == (tuple(range(0, 97, 2)), 12.0, "one frame in 2")


def test_too_few_frames_at_a_rate_are_refused():
    text = "the model needs 4k+1 = 49 frames; clip.mp4 at 8 frames a second has 33: use a longer clip or ask for 33 "
    with pytest.raises(ValueError, match=re.escape(text)):
        used(97, 24.0, 49, fps=0.0)
    assert len(used(97, 24.0, 49, longer="cut").frames) == 49, "at its own rate it is long enough"


def moving_square(path: Path, frames: int, fps: float, size: int = 64) -> Path:
    video = torch.zeros(frames, size, size, 3)
    for i in range(frames):
        video[i, 20:36, 4 + i : 20 + i, 0] = 1.0
    write_video(path, video, fps)
    return path


def test_tracks_are_those_of_the_frames_that_are_used(tmp_path):
    """30 frames a second to 24 leaves uneven steps: 1, 1, 1, 2 frames."""
    files = SourceFiles(moving_square(tmp_path / "a.mp4", 24, 30.0), tracker="lk", frames=9, size=(64, 64), fps=24.0)
    source = load_source(files, SPEC)
    assert source.fps == 24.0 and source.frames.shape[0] == source.tracks.frames == 9
    chosen = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10], dtype=torch.float32)
    moved = (source.tracks.points - source.tracks.points[:, :1])[..., 0].median(0).values * 64
    torch.testing.assert_close(moved, chosen, rtol=0, atol=0.5)


def test_train_says_rate_noise_and_weights_in_its_file(tmp_path, caplog):
    video = moving_square(tmp_path / "a.mp4", 20, 16.0)
    out = tmp_path / "a.safetensors"
    asked = ["--fps", "0", "--longer", "cut", "--noise-range", "high", "--noise", "as sampled", "--tracker", "lk"]
    with caplog.at_level("INFO"):
        assert main(["train", "--video", str(video), *asked, "--steps", "1", "--out", str(out)]) == 0
    assert "9 of 20 frames are used: 16 frames a second became 8, the last 1 cut off" in caplog.text
    told = MotionAdapter.load(out).metadata
    config = json.loads(told["config"])
    assert (config["noise"], config["noise_span"]) == ("as sampled", [0.8, 1.0])
    assert json.loads(told["source"])["fps"] == 8.0
    assert (told["expert"], told["base_file"]) == ("high", "embedded") and Identity.read(told[KEY]) is not None


def test_what_cannot_be_meant_is_refused(capsys, tmp_path):
    video = moving_square(tmp_path / "a.mp4", 20, 16.0)
    job = ["transfer", "--video", video, "--prompt", PROMPT, "--out", tmp_path / "out"]
    assert "at 4 frames a second has 5: use a longer clip" in failure(capsys, *job, "--fps", "4")
    assert '"-1" is not a number of frames per second' in failure(capsys, *job, "--fps", "-1")
    assert "leave out --tracks, --tracker, --frames, --size, --fps, --longer" in failure(
        capsys, *job, "--carry", "--longer", "cut"
    )
    assert "choose from" in failure(capsys, *job, "--noise-range", "middle")
    assert "choose from" in failure(capsys, *job, "--longer", "squeeze")


def test_a_part_of_the_noise_is_the_experts_or_meets_the_other_at_their_boundary():
    assert span_of("auto") == ("all", (0.0, 1.0)) and span_of("auto", expert="low") == ("low", (0.0, 0.92))
    assert span_of("high", expert="low") == ("high", (0.8, 1.0)), "what is asked for goes before the file's name"
    assert span_of("high", boundary=875.0) == ("high", (0.875, 1.0))
    assert span_of("low", boundary=875.0) == ("low", (0.0, 0.875)) and span_of("auto", boundary=875.0)[0] == "all"
    assert learning((0.0, 1.0), 875.0) == ("high", "low") and learning((0.0, 1.0), None) == ()
    assert learning((0.875, 1.0), 875.0) == ("high",) and learning((0.0, 0.875), 875.0) == ("low",)


@pytest.fixture(scope="module")
def both_experts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wan-a14b")
    PIPELINES["wan 2.2 A14B"]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("part", "left"), [("high", "low"), ("low", "high")])
def test_one_expert_of_a_folder_of_both_is_trained_alone(both_experts, tmp_path, part, left):
    video, out = moving_square(tmp_path / "a.mp4", 5, 16.0), tmp_path / "a.safetensors"
    command = [
        "train",
        "--video",
        video,
        "--model",
        both_experts,
        "--frames",
        "5",
        "--size",
        "64x64",
        "--tracker",
        "lk",
    ]
    assert main([str(a) for a in [*command, "--steps", "2", "--noise-range", part, "--out", out]]) == 0
    assert {p.name for p in tmp_path.glob("a*.safetensors")} >= {"a.safetensors", f"a.{part}.safetensors"}
    assert not (tmp_path / f"a.{left}.safetensors").exists(), "it learned nothing"
    learned = MotionAdapter.load(tmp_path / f"a.{part}.safetensors")
    assert all(kernel.up.weight.abs().sum() > 0 for kernel in learned.blocks.values())
    parts = MotionAdapter.load(out).of_experts(("high", "low"))
    assert all(kernel.up.weight.abs().sum() == 0 for kernel in parts[left].blocks.values())
    transformer = PIPELINES["wan 2.2 A14B"]().components["transformer" if part == "high" else "transformer_2"]
    own = identity_of(transformer, spec_for(transformer).family)
    assert learned.metadata["expert"] == part and Identity.read(learned.metadata[KEY]).same(own)

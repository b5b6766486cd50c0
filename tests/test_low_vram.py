"""A base model whose blocks visit the device one at a time: trained and sampled from the command line, end to end."""

from pathlib import Path

import pytest
import stepvideo_folder
import torch
from test_cli_source import moving_square
from tiny_pipelines import saved

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.cli.main import main
from det_core.models.identity import KEY


def written(name: str, folder: Path) -> Path:
    return stepvideo_folder.write_folder(folder) if name == "step-video" else saved(name, folder)


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["cogvideox", "wan 2.2 A14B", "step-video"])
def test_the_preset_learns_what_it_learns_without_and_knows_its_weights(name, tmp_path):
    """The adapter, and what its file says of the weights, are those of a model that is on the device whole."""
    model = written(name, tmp_path / "model")
    clip = moving_square(tmp_path / "clip.mp4", 17, 16.0)
    frames = 17 if name == "step-video" else 5
    made = ["--model", model, "--frames", frames, "--size", "64x64", "--device", "cpu"]
    learns = ["train", "--video", clip, "--caption", "a square", "--tracker", "lk", "--steps", 2, *made]
    assert run(*learns, "--out", tmp_path / "whole.safetensors") == 0
    assert run(*learns, "--out", tmp_path / "low.safetensors", "--preset", "low_vram") == 0
    whole, low = (MotionAdapter.load(tmp_path / f"{stem}.safetensors") for stem in ("whole", "low"))
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), low.parameters(), strict=True))
    known = {key: text for key, text in whole.metadata.items() if key.startswith(KEY)}
    assert known and known == {key: text for key, text in low.metadata.items() if key.startswith(KEY)}

    samples = ["sample", "--prompt", "a dog", "--sample-steps", 2, *made, "--low-vram"]
    assert run(*samples, "--adapter", tmp_path / "low.safetensors", "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1

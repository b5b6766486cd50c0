"""A local diffusers folder as base model: a whole CogVideoX pipeline in small, random weights, through `transfer`."""

import json

import pytest
import torch
from tiny_pipelines import saved

from det_core.cli.main import main
from det_core.media.video import write_video
from det_core.models.compute.precision import Compute
from det_core.models.diffusers_folder import DiffusersFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved("cogvideox", tmp_path_factory.mktemp("model"))


def test_latents_round_trip_in_shape(folder):
    model = DiffusersFolder(folder, Compute.on("cpu"))
    latents = model.encode_video(torch.rand(9, 32, 48, 3))
    assert latents.shape == (1, 4, 3, 4, 6)
    frames = model.decode_video(latents)
    assert frames.shape == (9, 32, 48, 3) and 0 <= frames.min() and frames.max() <= 1


def test_prompts_are_encoded_once_and_without_the_transformer(folder, monkeypatch):
    """What was encoded before is not encoded again; meanwhile the transformer is off the device."""
    model = DiffusersFolder(folder, Compute.on("cpu"))
    seen, where, own = [], [], type(model.family).encode_prompts

    def encode(family, pipe, prompts, device):
        seen.append((prompts, [str(device) for device in where]))
        return own(family, pipe, prompts, device)

    monkeypatch.setattr(model.denoiser.transformer, "to", where.append)
    monkeypatch.setattr(type(model.family), "encode_prompts", encode)
    text = model.encode_prompts(["a dog", "a cat", "a dog"])["encoder_hidden_states"]
    model.encode_prompts(["a cat"])
    assert seen == [(["a dog"], ["cpu"]), (["a cat"], ["cpu"])]
    assert len(where) == 2, "away, and back"
    assert torch.equal(text[0], text[2]) and not torch.equal(text[0], text[1])


def test_transfer_through_a_folder(folder, tmp_path):
    frames = torch.zeros(9, 64, 96, 3)
    for t in range(9):
        frames[t, 20:44, 8 + 6 * t : 32 + 6 * t] = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "source.mp4", frames, 8.0)
    arguments = ["transfer", "--video", str(tmp_path / "source.mp4"), "--caption", "a dog runs", "--prompt", "a cat"]
    arguments += ["--model", str(folder), "--frames", "9", "--size", "32x48", "--steps", "2", "--sample-steps", "2"]
    assert main([*arguments, "--tracker", "lk", "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mean"]["det"]["edit_fidelity"] is None, "without a CLIP folder it is not measured, not guessed"
    (video,) = metrics["prompts"]
    reason = video.get("not_measured", {}).get("det", {}).get("motion_fidelity", "")
    assert (video["det"]["motion_fidelity"] is None) == ("of the source's steps are seen" in reason)
    assert video["det"]["coverage"] is not None

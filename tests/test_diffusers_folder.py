"""A local diffusers folder as base model: a whole CogVideoX pipeline in small, random weights, through `transfer`."""

import json

import pytest
import torch
from tiny_dits import randomise

from det_core.cli.main import main
from det_core.media.video import write_video
from det_core.models.diffusers_folder import DiffusersFolder
from det_core.models.embedded.model import build_scheduler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(0)
    words = [("▁" + word, -1.0) for word in "a red dog cat runs on in the grass snow".split()]
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words])
    text_encoder = T5EncoderModel(T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4))
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=32,
        num_layers=3,
        use_rotary_positional_embeddings=True,
    )
    randomise(transformer, 1)
    pipeline = CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, build_scheduler())
    path = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(path)
    return path


def test_it_samples_exactly_what_the_pipeline_samples(folder):
    """The same noise, prompt, steps and guidance give the pipeline's own video latents."""
    from det_core.models.sample import sample

    model = DiffusersFolder(folder, "cpu", torch.float32)
    noise = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(2))
    ours = sample(
        model.denoiser, model.encode_prompts(["a red dog runs"]), model.encode_prompts([""]), noise, steps=4, cfg=3.0
    )
    theirs = model.pipe(
        "a red dog runs",
        height=32,
        width=48,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=noise.transpose(1, 2),
        output_type="latent",
    ).frames
    assert torch.allclose(ours, theirs.transpose(1, 2), atol=1e-4)


def test_latents_round_trip_in_shape(folder):
    model = DiffusersFolder(folder, "cpu", torch.float32)
    latents = model.encode_video(torch.rand(9, 32, 48, 3))
    assert latents.shape == (1, 4, 3, 4, 6)
    frames = model.decode_video(latents)
    assert frames.shape == (9, 32, 48, 3) and 0 <= frames.min() and frames.max() <= 1


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
    assert metrics["mean"]["det"]["motion_fidelity"] is not None

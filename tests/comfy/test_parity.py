"""What Load DiT gives computes what diffusers computes with the same weights: one forward, ten sampling steps."""

from __future__ import annotations

import pytest
import torch
from checkpoints import TEXT_WIDTH, save_folder, transformer
from twins import LATENTS, conditioning, ddim_scheduler, diffusers_cond, load, sampled

TOLERANCE = 1e-3


CASES = {
    "cogvideox 5B, native file": ("cogvideox", {}, False),
    "cogvideox 5B, diffusers folder": ("cogvideox", {}, True),
    "cogvideox 2B, diffusers folder": ("cogvideox", {"use_rotary_positional_embeddings": False}, True),
    "cogvideox 1.5": (
        "cogvideox",
        {"patch_size_t": 2, "patch_bias": False, "sample_height": 96, "sample_width": 170},
        False,
    ),
    "hunyuan_video": ("hunyuan_video", {}, False),
    "hunyuan_video, diffusers folder": ("hunyuan_video", {}, True),
    "wan": ("wan", {}, False),
    "wan, diffusers folder": ("wan", {}, True),
    "ltx": ("ltx", {}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_forward_agrees(pack, tmp_path, case):
    from det_core.models.families import spec_for

    family, changes, folder = CASES[case]
    model = transformer(family, **changes)
    patcher = load(pack, tmp_path, family, model, folder=folder)
    frames, height, width = LATENTS[family]
    if changes.get("patch_size_t"):
        frames = 4
    x = torch.randn(
        2, 128 if family == "ltx" else 16, frames, height, width, generator=torch.Generator().manual_seed(1)
    )
    t = torch.tensor([600.0, 600.0])
    cond = conditioning()
    ours = patcher.model
    with torch.no_grad():
        expected = spec_for(model).family.call(model, x, t, diffusers_cond(family, cond, 2), 6.0)
        kwargs = {"context": cond["text"].expand(2, -1, -1)}
        if family == "hunyuan_video":
            kwargs |= {"y": cond["pooled"].expand(2, -1), "guidance": torch.full((2,), 6.0)}
        if family == "ltx":
            kwargs |= {"attention_mask": None, "frame_rate": 25}
        actual = ours.diffusion_model(x, t / 1000 if family == "ltx" else t, transformer_options={}, **kwargs)
    assert expected.std() > 0.1
    assert (expected - actual).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", LATENTS)
def test_weights_are_known_again_in_the_other_layout(pack, tmp_path, family):
    """An adapter of the command line is known to be this MODEL's, and not to be of others of the same shape."""
    from det_pack.nodes._comfy.loading.base import identity_of as native_identity

    from det_core.models.families import FAMILIES
    from det_core.models.identity import identity_of

    model = transformer(family)
    native = native_identity(load(pack, tmp_path, family, model))
    assert identity_of(model, FAMILIES[family]).text == native.text
    assert not native.same(identity_of(transformer(family, seed=3), FAMILIES[family]))


@pytest.mark.parametrize("steps, seed", [(10, 2), (20, 11), (50, 12)])
@pytest.mark.parametrize("case", ["cogvideox 5B, native file", "cogvideox 2B, diffusers folder", "cogvideox 1.5"])
def test_cogvideox_sampling_agrees(pack, tmp_path, case, steps, seed):
    from det_core.models.denoiser import DiffusersDenoiser
    from det_core.models.sample import sample

    family, changes, folder = CASES[case]
    two_b = not changes.get("use_rotary_positional_embeddings", True)
    model = transformer(family, seed, **changes)
    if two_b:
        (tmp_path / "model" / "scheduler").mkdir(parents=True)
        (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text('{"snr_shift_scale": 3.0}')
    patcher = load(pack, tmp_path, family, model, folder=folder)
    noise = torch.randn(1, 16, 4, 8, 12, generator=torch.Generator().manual_seed(seed))
    cond = conditioning(seed=seed)
    denoiser = DiffusersDenoiser(model, ddim_scheduler(3.0 if two_b else 1.0))
    expected = sample(denoiser, diffusers_cond(family, cond), None, noise, steps=steps, cfg=1.0)
    assert (expected - sampled(patcher, family, cond, noise, steps)).abs().max() < TOLERANCE


@pytest.mark.parametrize("steps", [7, 13])
def test_cogvideox_sampling_agrees_with_ddim_itself(pack, tmp_path, steps):
    """Where the steps do not divide 1000, diffusers' steps do not join; the formula of DDIM does, with alpha exactly 0
    at the start."""
    import comfy.samplers

    from det_core.models.denoiser import DiffusersDenoiser

    model = transformer("cogvideox", seed=4)
    patcher = load(pack, tmp_path, "cogvideox", model)
    scheduler = ddim_scheduler()
    denoiser = DiffusersDenoiser(model, scheduler)
    noise = torch.randn(1, 16, 4, 8, 12, generator=torch.Generator().manual_seed(21))
    cond = conditioning(seed=22)
    sampling = patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)[:-1]
    times = [int((sampling.sigmas - sigma).abs().argmin()) for sigma in sigmas]
    assert times[0] == 999 and scheduler.alphas_cumprod[999] == 0
    x = noise.double()
    with torch.no_grad():
        for t, following in zip(times, [*times[1:], None], strict=True):
            alpha = scheduler.alphas_cumprod[t].double()
            after = 1.0 if following is None else scheduler.alphas_cumprod[following].double()
            t = torch.tensor([t])
            velocity = denoiser.predict_velocity(x.float(), t, diffusers_cond("cogvideox", cond)).double()
            x0 = alpha.sqrt() * x - (1 - alpha).sqrt() * velocity
            eps = alpha.sqrt() * velocity + (1 - alpha).sqrt() * x
            x = after**0.5 * x0 + (1 - after) ** 0.5 * eps
    assert (x - sampled(patcher, "cogvideox", cond, noise, steps)).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", ["hunyuan_video", "wan"])
def test_flow_ten_steps_agree(pack, tmp_path, family):
    from diffusers import FlowMatchEulerDiscreteScheduler

    from det_core.models.denoiser import DiffusersDenoiser

    model = transformer(family)
    patcher = load(pack, tmp_path, family, model)
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(2))
    cond = conditioning()
    sampling = patcher.get_model_object("model_sampling")
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 10)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
    denoiser = DiffusersDenoiser(model, scheduler)
    x = noise.clone()
    with torch.no_grad():
        for t in scheduler.timesteps:
            velocity = denoiser.predict_velocity(x, t.expand(1), diffusers_cond(family, cond))
            x = scheduler.step(velocity, t, x, return_dict=False)[0]
    assert (x - sampled(patcher, family, cond, noise)).abs().max() < TOLERANCE


def test_learned_positions_hold_at_their_size_and_are_refused_at_others(pack, tmp_path):
    """CogVideoX-5B-I2V 1.0: a learned table beside rotary positions; diffusers refuses other sizes, too."""
    model = transformer(
        "cogvideox",
        in_channels=32,
        num_attention_heads=3,
        num_layers=1,
        max_text_seq_length=226,
        use_learned_positional_embeddings=True,
    )
    table = model.patch_embed.pos_embedding
    table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(1)))
    dit = load(pack, tmp_path, "cogvideox", model, folder=True).model.diffusion_model
    assert dit.use_rotary_positional_embeddings
    text, video = torch.randn(1, 226, TEXT_WIDTH), torch.randn(1, 13, 32, 60, 90)
    with torch.no_grad():
        assert (dit.patch_embed(text, video) - model.patch_embed(text, video)).abs().max() < 1e-5
        part = dit.patch_embed(text, video[:, :5])  # fewer frames: the table's first ones
        assert (part - model.patch_embed(text, video)[:, : part.shape[1]]).abs().max() < 1e-5
        for wrong in (video[..., :88], video[..., :58, :], video[:, [0] * 14]):
            with pytest.raises(ValueError, match="learned positions for 720x480 pixels and at most 49 frames"):
                dit.patch_embed(text, wrong)


def test_corrections_are_said_and_not_repeated(pack, tmp_path, caplog):
    import logging

    from det_pack.nodes._comfy.loading.cogvideox import Variant, correct, needs_correction

    with caplog.at_level(logging.INFO):
        patcher = load(pack, tmp_path, "cogvideox", transformer("cogvideox"))
    lines = [r.message for r in caplog.records if "CogVideoX made right" in r.message]
    assert lines == ["model.safetensors: CogVideoX made right for text-to-video: sampling, rotary positions"]
    assert not needs_correction(patcher.model)
    assert correct(patcher.model, Variant()) == []


def test_deep_copies_are_corrected_too(pack, tmp_path):
    patcher = load(pack, tmp_path, "cogvideox", transformer("cogvideox"))
    noise = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    again = patcher.clone(force_deepcopy=True)
    assert again.model is not patcher.model
    cond = conditioning()
    assert torch.equal(sampled(again, "cogvideox", cond, noise, 3), sampled(patcher, "cogvideox", cond, noise, 3))


def test_refusals_name_the_file_and_the_reason(pack, tmp_path):
    from det_pack.nodes._comfy.loading.dit_loader import load_dit
    from safetensors.torch import save_file

    save_file({"some.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError,
        match="other.safetensors: these are not the weights of CogVideoX, HunyuanVideo 1.5, HunyuanVideo, Wan, LTX-2, ",
    ):
        load_dit(tmp_path / "other.safetensors")
    save_folder(transformer("wan"), tmp_path / "half")
    next((tmp_path / "half" / "transformer").glob("*-00002-*")).unlink()
    with pytest.raises(ValueError, match="incomplete: .*-00002-of-00002.safetensors missing"):
        load_dit(tmp_path / "half" / "transformer")

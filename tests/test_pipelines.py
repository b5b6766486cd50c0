"""Every supported base model is sampled exactly as its own diffusers pipeline samples it."""

import pytest
import torch
from tiny_dits import filled_adapter
from tiny_pipelines import PIPELINES, saved

from det_core.adapter.attach import attach
from det_core.models.base_model import base_model_spec
from det_core.models.compute.precision import Compute
from det_core.models.diffusers_folder import DiffusersFolder
from det_core.models.sample import ModelAt, sample

PROMPT = "a red dog runs in the grass"
STEPS = 8
FLOAT32 = Compute(torch.device("cpu"), torch.float32, False, "whatever this CPU can do")


@pytest.fixture(scope="module", params=PIPELINES)
def model(request, tmp_path_factory):
    return DiffusersFolder(saved(request.param, tmp_path_factory.mktemp("model")), FLOAT32)


def theirs(model, noise: torch.Tensor, cfg: float, **changes) -> torch.Tensor:
    """The latents (1, C, T, H, W) that the pipeline makes of this noise."""
    spec, pipe = model.denoiser.spec, model.pipe
    _, _, frames, height, width = noise.shape
    packed = noise
    if spec.name == "cogvideox":
        extra = -frames % spec.patch[0]
        packed = torch.cat([noise[:, :, frames - extra :].flip(-1), noise], 2).transpose(1, 2)
    if spec.name == "ltx":
        packed = noise.flatten(2).transpose(1, 2)
    cell = spec.spatial_compression
    settings = {"height": height * cell, "width": width * cell, "num_frames": spec.frames.frames(frames)}
    out = pipe(PROMPT, **settings, num_inference_steps=STEPS, guidance_scale=cfg, latents=packed,
               output_type="latent", **changes).frames  # fmt: skip
    if spec.name == "ltx":
        return out.transpose(1, 2).unflatten(2, (frames, height, width))
    return out.transpose(1, 2)[:, :, -frames:] if spec.name == "cogvideox" else out


def noise_of(model, frames: int = 3) -> torch.Tensor:
    channels = model.denoiser.transformer.config.in_channels
    return torch.randn(1, channels, frames, 4, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_it_samples_exactly_what_the_pipeline_samples(model, cfg):
    """The same noise, prompt, steps and guidance give the pipeline's own video latents."""
    noise = noise_of(model)
    cond, uncond = model.encode_prompts([PROMPT]), model.encode_prompts([""])
    ours = sample(model.denoiser, cond, uncond, noise, steps=STEPS, cfg=cfg)
    expected = theirs(model, noise, cfg)
    assert ours.shape == noise.shape == expected.shape
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_the_adapter_acts_on_both_halves_of_the_guidance(model):
    """A guided sampling with an adapter equals the same by hand, prompt and empty prompt each a call of its own."""
    denoiser, noise = model.denoiser, noise_of(model, frames=2)
    adapter = filled_adapter(denoiser.transformer)
    cond, uncond = model.encode_prompts([PROMPT]), model.encode_prompts([""])
    keep = range(1, denoiser.spec.num_blocks)
    ours = sample(denoiser, cond, uncond, noise, steps=2, cfg=3.0, adapter=adapter, keep=keep, strength=0.5)
    x, family = noise, denoiser.spec.family
    scheduler = family.schedule(denoiser.spec, denoiser.scheduler, 2, x.shape, denoiser.device)
    with torch.no_grad():
        for t in scheduler.timesteps:
            with attach(denoiser.transformer, adapter, keep=keep, strength=0.5):
                velocity = denoiser.predict_velocity(x, t[None], cond, 3.0)
                if not denoiser.spec.embedded_guidance:
                    without = denoiser.predict_velocity(x, t[None], uncond)
                    velocity = without + 3.0 * (velocity - without)
            x = scheduler.step(velocity, t, x, return_dict=False)[0]
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)
    plain = sample(denoiser, cond, uncond, noise, steps=2, cfg=3.0)
    assert (ours - plain).abs().max() > 1e-2


def test_a_time_without_guidance_gives_what_the_prompt_alone_gives(model):
    cond, uncond = model.encode_prompts([PROMPT]), model.encode_prompts([""])
    at = ModelAt(model.denoiser, torch.tensor(400.0), cond, uncond)
    with torch.no_grad():
        assert torch.equal(at.velocity(noise_of(model)), at.with_prompt(noise_of(model)))


def test_clean_latents_and_the_velocity_towards_them(model):
    """By the definitions of v-prediction and of flow matching, and as training reads them."""
    denoiser, cond, t = model.denoiser, model.encode_prompts([PROMPT]), torch.tensor(400.0)
    x0, noise = noise_of(model), noise_of(model).flip(2)
    x, at, (signal, level) = (
        denoiser.add_noise(x0, noise, t[None]),
        ModelAt(denoiser, t, cond, cfg=denoiser.guidance),
        denoiser.level(t),
    )
    velocity = signal * noise - level * x0 if denoiser.spec.prediction == "v" else noise - x0
    torch.testing.assert_close(at.velocity_towards(x, x0), velocity, rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(at.clean(x), denoiser.predict_x0(x, t[None], cond), rtol=0, atol=1e-5)


def test_its_spec_is_told_before_a_weight_is_read(model, monkeypatch):
    """So that all that a user asks for can be checked before gigabytes are loaded."""
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)
    assert base_model_spec(model.pipe.config._name_or_path) == model.denoiser.spec

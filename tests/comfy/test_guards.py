"""What would go wrong without a word is said: an adapter that does nothing, a training that learns nothing, samplers
that do not fit, a file that is empty."""

from __future__ import annotations

import logging

import pytest
import torch
from small_models import CASES
from test_every_class import an_adapter, sampled

WAN = CASES["Wan 2.1 T2V, Wan 2.2 A14B T2V"]


def applied(patcher):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    return apply_adapter(patcher, an_adapter(model_spec(patcher), 0.5), [0, 1, 2], 1.0)


def test_an_adapter_whose_kernels_are_not_called_says_so(pack, caplog, monkeypatch):
    patcher = WAN.model()
    model = applied(patcher)
    called = []
    for block in patcher.model.diffusion_model.blocks:  # a core that computes its blocks in another way
        monkeypatch.setattr(block, "forward", lambda x, *args, **kwargs: x)
    monkeypatch.setattr(
        "det_pack.nodes._comfy.display.notice.send_text", lambda text, node: called.append((text, node))
    )
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        sampled(model, WAN)
    assert len(called) == 1, "once, not at every step"
    assert "did nothing: WAN21 was evaluated without a call of blocks.0.self_attn" in called[0][0]
    assert called[0][0] in caplog.text


def test_a_cache_in_place_of_the_model_is_no_fault(pack, monkeypatch):
    import comfy.patcher_extension

    said, model = [], applied(WAN.model())
    monkeypatch.setattr("det_pack.nodes._comfy.display.notice.send_text", lambda text, node: said.append(text))
    model.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "cache", lambda executor, x, *args, **kwargs: x
    )
    with torch.inference_mode():
        sampled(model, WAN)
    assert said == []


def test_a_training_without_a_gradient_says_so(pack, tmp_path, monkeypatch):
    from test_every_class import trained

    patcher = WAN.model()
    for block in patcher.model.diffusion_model.blocks:
        monkeypatch.setattr(block, "forward", lambda x, *args, **kwargs: x)
    monkeypatch.setattr("det_pack.nodes._comfy.loading.paths.state_path", lambda name: tmp_path / name)
    with torch.inference_mode(), pytest.raises(ValueError, match="does not depend on what is to be learned: WanModel"):
        trained(patcher, WAN)


def test_block_by_block_sampling_is_refused(pack):
    import comfy.sample
    import comfy.samplers

    case = CASES["Wan causal (Self Forcing)"]
    noise, text, sampler = case.latents(), case.conditioning(), comfy.samplers.ksampler("ar_video")
    with torch.inference_mode():
        model = applied(case.model())
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
        with pytest.raises(ValueError, match="makes the video block by block"):
            comfy.sample.sample_custom(model, noise, 1.0, sampler, sigmas, text, text, 0 * noise, disable_pbar=True)


@pytest.mark.parametrize(
    "sampler, scheduler, steps, fits",
    [
        ("euler", "simple", 6, True),
        ("dpmpp_2m", "sgm_uniform", 6, True),
        ("ddim", "normal", 6, True),
        ("heun", "simple", 6, False),
        ("dpm_2_ancestral", "simple", 6, False),
        ("euler", "linear_quadratic", 6, False),
    ],
)
def test_samplers_that_ruin_the_embedded_model_are_named(pack, monkeypatch, sampler, scheduler, steps, fits):
    import comfy.sample
    from det_pack.nodes._comfy.loading.embedded import TinyClip, load_tiny

    said = []
    monkeypatch.setattr("det_pack.nodes._comfy.display.notice.send_text", lambda text, node: said.append(text))
    with torch.inference_mode():
        model, clip = load_tiny(), TinyClip()
        words, nothing = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red circle on a blue background", "")
        )
        noise = torch.randn(1, 16, 5, 8, 8, generator=torch.Generator().manual_seed(0))
        latents = comfy.sample.sample(
            model,
            noise,
            steps,
            3.0,
            sampler,
            scheduler,
            words,
            nothing,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=0,
        )
    size = model.model.process_latent_in(latents).square().mean().sqrt()
    if fits:
        assert said == [] and 0.7 < size < 1.1
    else:
        assert len(said) == 1 and "heun, dpm_2 and dpm_2_ancestral" in said[0] and "linear_quadratic" in said[0]


@pytest.mark.parametrize("content, message", [(b"", "dit.safetensors is empty"), (b"x" * 64, "cannot be read")])
def test_a_damaged_file_is_named(pack, tmp_path, content, message):
    from det_pack.nodes._comfy.loading.dit_loader import load_dit

    (tmp_path / "dit.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_dit(tmp_path / "dit.safetensors")
    assert "dit.safetensors" in str(caught.value) and "\n" not in str(caught.value)

"""What would go wrong without a word is said: an adapter that does nothing, a training that learns nothing, samplers
that do not fit, a file that is empty."""

from __future__ import annotations

import pytest
import torch
from small_models import CASES
from walk import an_adapter, sampled

WAN = CASES["Wan 2.1 T2V, Wan 2.2 A14B T2V"]


def applied(patcher):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    return apply_adapter(patcher, an_adapter(model_spec(patcher), 0.5), [0, 1, 2], 1.0)


def bypassed(x, *args, **kwargs):
    return x


def other_cores(monkeypatch, dit) -> dict:
    """What a core may have made of its blocks, by what is said of it."""
    one, two = dit.blocks[0], dit.blocks[1]
    forwards, own = (one.forward, two.forward), one.self_attn

    def otherwise(x, *args, **kwargs):
        return x + own.o(own.v(x))  # its attention, not through the module's forward

    def swapped():
        monkeypatch.setattr(one, "forward", forwards[1])
        monkeypatch.setattr(two, "forward", forwards[0])

    def narrow(x, e, *args, **kwargs):
        return x + torch.nn.functional.pad(own(x[..., :64], *args), (0, 64))

    def by_picture(x, e, *args, **kwargs):
        return x + own(x[None], *args)[0]

    return {
        "blocks.0.self_attn is never called": lambda: monkeypatch.setattr(one, "forward", bypassed),
        "blocks.0.self_attn is never called. ": lambda: monkeypatch.setattr(one, "forward", otherwise),
        "blocks.1.self_attn is called twice or out of order": swapped,
        "blocks.0.self_attn passes tokens of 64 channels, not 128": lambda: monkeypatch.setattr(one, "forward", narrow),
        "blocks.0.self_attn passes .1, 1, 48, 128., and no tokens": lambda: monkeypatch.setattr(
            one, "forward", by_picture
        ),
        "blocks.2.self_attn is missing": lambda: delattr(dit.blocks[2], "self_attn"),
    }


CHANGES = (
    "blocks.0.self_attn is never called",
    "blocks.0.self_attn is never called. ",
    "blocks.1.self_attn is called twice or out of order",
    "blocks.0.self_attn passes tokens of 64 channels, not 128",
    "blocks.0.self_attn passes .1, 1, 48, 128., and no tokens",
    "blocks.2.self_attn is missing",
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_core_that_changed_its_model_code_is_refused(pack, tmp_path, monkeypatch, change):
    """Before the first sample, and before the first step, with the module and the version."""
    from comfyui_version import __version__
    from walk import trained

    patcher = WAN.model()
    model = applied(patcher)
    other_cores(monkeypatch, patcher.model.diffusion_model)[change]()
    monkeypatch.setattr("det_pack.nodes._comfy.loading.paths.state_path", lambda name: tmp_path / name)
    with torch.inference_mode():
        for work in (lambda: sampled(model, WAN), lambda: trained(patcher, WAN)):
            with pytest.raises(
                ValueError, match=f"WAN21 of ComfyUI {__version__} has other code .* {change}"
            ) as refused:
                work()
            assert "\n" not in str(refused.value)


def test_a_model_is_tested_once(pack, monkeypatch):
    from det_pack.det_core.adapter import tap_check
    from det_pack.nodes._comfy.sampling import self_test

    watched = []

    class Watch(tap_check.TapWatch):
        def finish(self, whole=True):
            watched.append(list(self.passed))
            super().finish(whole)

    monkeypatch.setattr(self_test, "TapWatch", Watch)
    with torch.inference_mode():
        sampled(applied(WAN.model()), WAN, steps=3)
    assert watched == [[0, 1, 2]]


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

"""Apply Motion Adapter on a MODEL equals det_core's `attach` on the diffusers model, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
from types import SimpleNamespace

import pytest
import torch
from checkpoints import transformer
from twins import LATENTS, comfy_cond, conditioning, ddim_scheduler, diffusers_cond, load, sampled, trained
from untouched import digest, overridden

FAMILIES = ["cogvideox", "hunyuan_video", "wan"]


@pytest.fixture
def loaded(pack, tmp_path, request):
    """(family, diffusers model, MODEL, adapter) of one family."""
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    family = request.param
    model = transformer(family)
    patcher = load(pack, tmp_path, family, model)
    return family, model, patcher, as_native(trained(model_spec(patcher)))


def as_native(adapter):
    """The adapter as the pack's own class (it is imported under another name here than in the tests)."""
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter

    native = MotionAdapter(adapter.base_model, adapter.num_blocks, dict(adapter.blocks.items()))
    native.metadata = dict(adapter.metadata)
    return native


def x0_of(patcher, family: str, x: torch.Tensor, sigma: torch.Tensor, cond: dict) -> torch.Tensor:
    """One evaluation through `apply_model`, batch as given, with the wrappers of the patcher."""
    import comfy.model_patcher
    import comfy.sampler_helpers

    options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
    comfy.sampler_helpers.prepare_model_patcher(patcher, {}, options)
    batch = len(x)
    extra = {}
    if family == "hunyuan_video":
        extra = {"y": cond["pooled"].expand(batch, -1), "guidance": torch.full((batch,), 6.0)}
    with torch.no_grad():
        return patcher.model.apply_model(
            x,
            sigma,
            c_crossattn=cond["text"].expand(batch, -1, -1),
            transformer_options=options["transformer_options"],
            **extra,
        )


@pytest.mark.parametrize("loaded", FAMILIES, indirect=True)
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_attach(loaded, batch):
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    from det_core.adapter.attach import attach
    from det_core.models.denoiser import DiffusersDenoiser

    family, model, patcher, adapter = loaded
    x0 = torch.randn(batch, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(4))
    cond = conditioning()
    denoiser = DiffusersDenoiser(model, ddim_scheduler())
    t = torch.full((batch,), 600)
    keep = [0, 1, 3]
    with torch.no_grad(), attach(model, trained_twin(model, adapter), keep=keep, strength=0.7):
        expected = denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, diffusers_cond(family, cond, batch))
    sampling = patcher.get_model_object("model_sampling")
    sigma = sampling.sigmas[t] if family == "cogvideox" else t / 1000
    noised = sampling.noise_scaling(sigma, noise, x0, False)
    actual = x0_of(apply_adapter(patcher, adapter, keep, 0.7), family, noised, sigma, cond)
    base = x0_of(patcher, family, noised, sigma, cond)
    assert (actual - expected).abs().max() < 1e-4
    assert (actual - base).abs().max() > 1e-2
    assert overridden(patcher.model) == []


def trained_twin(model, adapter):
    """The same kernels for the diffusers model; block order is the same in both layouts."""
    from det_core.adapter.motion_adapter import MotionAdapter
    from det_core.models.families import spec_for

    twin = MotionAdapter.create(spec_for(model), 8, 3)
    twin.load_state_dict(adapter.state_dict())
    return twin.requires_grad_(False)


@pytest.mark.parametrize("loaded", FAMILIES, indirect=True)
def test_strength_zero_and_no_blocks_are_the_base_bit_for_bit(loaded):
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    family, _, patcher, adapter = loaded
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    before, base = digest(patcher.model), sampled(patcher, family, cond, noise, 3)
    for variant in (
        apply_adapter(patcher, adapter, adapter.keep, 0.0),
        apply_adapter(patcher, adapter, [], 1.0),
        apply_adapter(patcher, adapter, adapter.keep, 1.0, 0.5, 0.5),
    ):
        assert torch.equal(sampled(variant, family, cond, noise, 3), base)
    moved = sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0), family, cond, noise, 3)
    assert (moved - base).abs().max() > 1e-2
    assert torch.equal(sampled(patcher, family, cond, noise, 3), base)
    assert digest(patcher.model) == before and overridden(patcher.model) == []


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_branches_stacks_and_collected_clones(loaded):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    family, _, patcher, a = loaded
    b = as_native(trained(model_spec(patcher), seed=9))
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()

    def run(model):
        return sampled(model, family, cond, noise, 2)

    with_a, with_b = apply_adapter(patcher, a, a.keep, 1.0), apply_adapter(patcher, b, b.keep, 1.0)
    alone = {"base": run(patcher), "a": run(with_a), "b": run(with_b)}
    for order in (("a", "base", "b"), ("b", "a", "base"), ("base", "b", "a")):
        for name in order:
            assert torch.equal(run({"base": patcher, "a": with_a, "b": with_b}[name]), alone[name])
    both = run(apply_adapter(with_a, b, b.keep, 1.0))
    other = run(apply_adapter(with_b, a, a.keep, 1.0))
    assert (both - other).abs().max() < 1e-4
    assert (both - alone["a"]).abs().max() > 1e-2
    twice = run(apply_adapter(with_a, a, a.keep, 1.0))
    assert (twice - alone["a"]).abs().max() > 1e-3
    for _ in range(3):
        with_a.clone()
        gc.collect()
    assert torch.equal(run(with_a), alone["a"])


@pytest.mark.parametrize("loaded", ["cogvideox"], indirect=True)
def test_start_and_end_percent_limit_the_adapter(loaded):
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    family, _, patcher, adapter = loaded
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    whole = sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0), family, cond, noise, 4)
    first = sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0, 0.0, 0.5), family, cond, noise, 4)
    last = sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0, 0.5, 1.0), family, cond, noise, 4)
    base = sampled(patcher, family, cond, noise, 4)
    everything = (whole, first, last, base)
    assert all((p - q).abs().max() > 1e-3 for i, p in enumerate(everything) for q in everything[:i])


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_combines_with_weight_patches(loaded):
    """A LoRA is a weight patch; order does not matter and nothing remains."""
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    family, _, patcher, adapter = loaded
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    base = sampled(patcher, family, cond, noise, 2)
    delta = {
        "diffusion_model.blocks.0.self_attn.q.weight": (
            "diff",
            (0.05 * torch.randn(256, 256, generator=torch.Generator().manual_seed(1)),),
        )
    }

    def lora(model):
        patched = model.clone()
        assert patched.add_patches(delta, 1.0)
        return patched

    first = sampled(apply_adapter(lora(patcher), adapter, adapter.keep, 1.0), family, cond, noise, 2)
    second = sampled(lora(apply_adapter(patcher, adapter, adapter.keep, 1.0)), family, cond, noise, 2)
    assert torch.equal(first, second)
    assert (
        first - sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0), family, cond, noise, 2)
    ).abs().max() > 1e-3
    assert torch.equal(sampled(patcher, family, cond, noise, 2), base)


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn"])
def test_fp8_weights(pack, tmp_path, dtype):
    from checkpoints import save_native
    from det_pack.nodes._comfy.loading.dit_loader import load_dit
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    save_native("wan", transformer("wan"), tmp_path / "wan.safetensors")
    patcher = load_dit(tmp_path / "wan.safetensors", dtype)
    adapter = as_native(trained(model_spec(patcher)))
    noise = torch.randn(1, 16, *LATENTS["wan"], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    base = sampled(patcher, "wan", cond, noise, 2)
    moved = sampled(apply_adapter(patcher, adapter, adapter.keep, 1.0), "wan", cond, noise, 2)
    assert moved.isfinite().all() and (moved - base).abs().max() > 1e-2


@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_torch_compile_of_the_base(loaded, backend):
    if backend == "inductor" and not os.environ.get("SLOW_TESTS"):
        pytest.skip("minutes of compiling: set SLOW_TESTS=1 to run it")
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    family, _, patcher, adapter = loaded
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    expected = [
        sampled(m, family, cond, noise, 2) for m in (patcher, apply_adapter(patcher, adapter, adapter.keep, 1.0))
    ]
    compiled = patcher.clone()
    set_torch_compile_wrapper(model=compiled, backend=backend)
    actual = [
        sampled(m, family, cond, noise, 2) for m in (compiled, apply_adapter(compiled, adapter, adapter.keep, 1.0))
    ]
    for want, have in zip(expected, actual, strict=True):
        assert (want - have).abs().max() < 1e-4
    assert (sampled(compiled, family, cond, noise, 2) - expected[0]).abs().max() < 1e-4


def test_refusals(pack, tmp_path):
    import comfy.sd
    from checkpoints import save_native
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    wan = load(pack, tmp_path, "wan", transformer("wan"))
    cog = load(pack, tmp_path, "cogvideox", transformer("cogvideox"), "cog")
    adapter = as_native(trained(model_spec(wan)))
    with pytest.raises(ValueError, match="made for wan .* but the model is cogvideox"):
        apply_adapter(cog, adapter, adapter.keep, 1.0)
    with pytest.raises(ValueError, match="there is no block 7 to keep"):
        apply_adapter(wan, adapter, [7], 1.0)
    save_native("cogvideox", transformer("cogvideox"), tmp_path / "stock.safetensors")
    stock = comfy.sd.load_diffusion_model(str(tmp_path / "stock.safetensors"))
    with pytest.raises(ValueError, match=r"load the same file with Load DiT \(DeT\)"):
        model_spec(stock)
    assert MotionAdapter is type(adapter)


def test_an_image_model_is_refused(pack):
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    class Flux(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Sequential(torch.nn.Linear(4, 4))

    with pytest.raises(
        ValueError, match="this MODEL is a Flux, which motion adapters do not work on: .*; supported are .* CogVideoX"
    ):
        model_spec(SimpleNamespace(model=Flux()))


def test_guidance_batches_cond_and_uncond(pack, tmp_path):
    """cfg > 1 puts both conditions into one batch: each half must get its own kernel output."""
    import comfy.sample
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    patcher = load(pack, tmp_path, "cogvideox", transformer("cogvideox"))
    adapter = as_native(trained(model_spec(patcher)))
    model = apply_adapter(patcher, adapter, adapter.keep, 1.0)
    noise = torch.randn(1, 16, *LATENTS["cogvideox"], generator=torch.Generator().manual_seed(3))
    positive, negative = (comfy_cond("cogvideox", conditioning(seed=s)) for s in (5, 6))

    def step(pos, neg, cfg):
        sigmas = model.get_model_object("model_sampling").sigmas[[600, 500]]
        return comfy.sample.sample(
            model,
            noise,
            1,
            cfg,
            "euler",
            "simple",
            pos,
            neg,
            torch.zeros_like(noise),
            sigmas=sigmas.clone(),
            disable_pbar=True,
            seed=0,
        )

    with_prompt, without = step(positive, positive, 1.0), step(negative, negative, 1.0)
    assert (step(positive, negative, 3.0) - (without + 3 * (with_prompt - without))).abs().max() < 1e-4

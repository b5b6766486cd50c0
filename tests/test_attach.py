"""Adapters on base models: an untrained or detached one leaves no trace, a trained one adds exactly what is defined."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from native_dits import native_twin, run_diffusers_blocks
from tiny_dits import FAMILIES, WITH_TWINS, build, call_for, conv_reference, filled_adapter
from torch import nn

from det_core.adapter.attach import attach, tapped
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.families import spec_for

ATTENTION = {  # block index -> the diffusers attention module, written out by hand
    "cogvideox": lambda model: [block.attn1 for block in model.transformer_blocks],
    "hunyuan_video": lambda model: [
        block.attn for block in (*model.transformer_blocks, *model.single_transformer_blocks)
    ],
    "wan": lambda model: [block.attn1 for block in model.blocks],
    "ltx": lambda model: [block.attn1 for block in model.transformer_blocks],
    "hunyuan_video15": lambda model: [block.attn for block in model.transformer_blocks],
    "ltx2": lambda model: [block.attn1 for block in model.transformer_blocks],
    "minimax_h3": lambda model: [block.attn for block in model.transformer_blocks],
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(family):
    return build(family)


def leftovers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in module.__dict__]


@torch.no_grad()
def test_new_adapter_is_bit_identical_to_none(family, model):
    call = call_for(family, model)
    base = call(model)
    with attach(model, MotionAdapter.create(spec_for(model))):
        assert torch.equal(call(model), base)


@torch.no_grad()
def test_strength_zero_no_blocks_and_detached_are_bit_identical_to_base(family, model):
    call, adapter = call_for(family, model), filled_adapter(model)
    base, weights = call(model), copy.deepcopy(model.state_dict())
    with attach(model, adapter, strength=0.0):
        assert torch.equal(call(model), base)
    with attach(model, adapter, keep=[]):
        assert torch.equal(call(model), base)
    with attach(model, adapter):
        assert (call(model) - base).abs().max() > 1e-2
        assert leftovers(model)
    assert leftovers(model) == []
    assert torch.equal(call(model), base)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [1, 5])
def test_adds_the_defined_residual_to_the_attention_output(family, model, kernel_size):
    call, adapter = call_for(family, model, latent=(4, 4, 6)), filled_adapter(model, kernel_size=kernel_size)
    with attach(model, adapter, keep=[0, 1], strength=0.7):
        out = call(model)

    def add(kernel):
        def hook(_module, args, kwargs, result):
            x = args[0] if args else kwargs["hidden_states"]
            others = x.shape[1] - math.prod(call.grid)  # MiniMax H3's text stands before the video
            residual = 0.7 * F.pad(conv_reference(kernel, x[:, others:], call.grid), (0, 0, others, 0))
            return (result[0] + residual, *result[1:]) if isinstance(result, tuple) else result + residual

        return hook

    for index in (0, 1):
        ATTENTION[family](model)[index].register_forward_hook(add(adapter.kernels[index]), with_kwargs=True)
    assert (out - call(model)).abs().max() < 2e-5


@torch.no_grad()
def test_every_block_has_its_own_effect(family, model):
    call, adapter = call_for(family, model), filled_adapter(model)
    outputs = [call(model)]
    for index in range(adapter.num_blocks):
        with attach(model, adapter, keep=[index]):
            outputs.append(call(model))
    for first in range(len(outputs)):
        for second in range(first):
            assert (outputs[first] - outputs[second]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("family", WITH_TWINS)
def test_native_layout_means_the_same_as_diffusers(family, model):
    """Same weights through `to_native`, same adapter: equal video tokens, so taps and key mapping agree."""
    native, adapter = native_twin(family, model), filled_adapter(model)
    dim, grid, generator = 32, (3, 2, 3), torch.Generator().manual_seed(4)
    temb_shape = {"cogvideox": (2, 16), "hunyuan_video": (2, dim), "wan": (2, 6, dim), "ltx": (2, 1, 6 * dim)}[family]
    video, text, temb = (torch.randn(shape, generator=generator) for shape in ((2, 18, dim), (2, 5, dim), temb_shape))
    spec, native_spec = spec_for(model), spec_for(native)
    assert (spec.layout, native_spec.layout) == ("diffusers", "native")

    base = run_diffusers_blocks(family, model, video, text, temb)
    assert (native(video, text, temb) - base).abs().max() < 2e-5
    with tapped(model, spec, adapter.kernels_for(spec), lambda: grid, 0.8):
        expected = run_diffusers_blocks(family, model, video, text, temb)
    with tapped(native, native_spec, adapter.kernels_for(native_spec), lambda: grid, 0.8):
        out = native(video, text, temb)
    assert (expected - base).abs().max() > 1e-2
    assert (out - expected).abs().max() < 2e-5
    assert leftovers(native) == []


@pytest.mark.parametrize("family", WITH_TWINS)
def test_native_gradients_equal_diffusers_gradients(family, model):
    native, adapter = native_twin(family, model), filled_adapter(model)
    dim, grid, generator = 32, (3, 2, 3), torch.Generator().manual_seed(4)
    temb_shape = {"cogvideox": (2, 16), "hunyuan_video": (2, dim), "wan": (2, 6, dim), "ltx": (2, 1, 6 * dim)}[family]
    video, text, temb = (torch.randn(shape, generator=generator) for shape in ((2, 18, dim), (2, 5, dim), temb_shape))
    gradients = []
    for base, run in ((model, lambda *a: run_diffusers_blocks(family, model, *a)), (native, native)):
        spec = spec_for(base)
        with tapped(base, spec, adapter.kernels_for(spec), lambda: grid):
            loss = run(video, text, temb).square().mean()
        gradients.append(torch.autograd.grad(loss, list(adapter.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_adapters_nest(family, model):
    call, first, second = call_for(family, model), filled_adapter(model, seed=2), filled_adapter(model, seed=3)
    with attach(model, first):
        alone = call(model)
        with attach(model, second):
            both = call(model)
        assert torch.equal(call(model), alone)
    with attach(model, second), attach(model, first):
        assert (call(model) - both).abs().max() < 2e-5
    assert (both - alone).abs().max() > 1e-2
    assert leftovers(model) == []


@torch.no_grad()
def test_the_grid_is_read_from_each_call(family, model):
    adapter = filled_adapter(model)
    small, large = call_for(family, model), call_for(family, model, latent=(4, 6, 4), batch=1)
    with attach(model, adapter):
        first, second, again = small(model), large(model), small(model)
    with attach(model, adapter):
        assert torch.equal(large(model), second)
    assert torch.equal(first, again)


def test_gradient_checkpointing_gives_the_same_gradients(family, model):
    call, adapter = call_for(family, model), filled_adapter(model)
    gradients = []
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        with attach(model, adapter):
            loss = call(model).square().mean()
            gradients.append(torch.autograd.grad(loss, list(adapter.parameters())))
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7)


def test_model_comes_back_whole_after_an_error_and_with_its_own_override(model, family):
    call, adapter = call_for(family, model), filled_adapter(model)
    attention = ATTENTION[family](model)[0]
    calls = []
    original = attention.forward

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    attention.forward = counted  # as an offloading hook of another library would
    with torch.no_grad(), pytest.raises(KeyboardInterrupt):
        with attach(model, adapter):
            call(model)
            raise KeyboardInterrupt
    assert len(calls) == 1, "an override that was there before is still called through"
    assert attention.__dict__["forward"] is counted
    del attention.forward
    assert leftovers(model) == []


@pytest.mark.slow
@torch.no_grad()
def test_compiled_model_sees_the_adapter_come_and_go():
    model = build("wan")
    call, adapter = call_for("wan", model), filled_adapter(model)
    base = call(model)
    with attach(model, adapter):
        expected = call(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    assert (call(compiled) - base).abs().max() < 2e-5  # compiled before the adapter comes
    with attach(compiled, adapter):
        assert (call(compiled) - expected).abs().max() < 2e-5
    assert (call(compiled) - base).abs().max() < 2e-5
    assert leftovers(model) == []


@pytest.mark.slow
@torch.no_grad()
def test_compiled_native_model_carries_the_hidden_from_tap_to_tap():
    native = native_twin("hunyuan_video", build("hunyuan_video"))
    adapter, spec, generator = filled_adapter(native), spec_for(native), torch.Generator().manual_seed(4)
    inputs = [torch.randn(shape, generator=generator) for shape in ((2, 18, 32), (2, 5, 32), (2, 32))]
    base = native(*inputs)
    with tapped(native, spec, adapter.kernels_for(spec), lambda: (3, 2, 3)):
        expected = native(*inputs)
    torch._dynamo.reset()
    compiled = torch.compile(native, backend="eager")
    assert (compiled(*inputs) - base).abs().max() < 2e-5
    with tapped(compiled, spec, adapter.kernels_for(spec), lambda: (3, 2, 3)):
        assert (compiled(*inputs) - expected).abs().max() < 2e-5
    assert (compiled(*inputs) - base).abs().max() < 2e-5


@torch.no_grad()
def test_half_precision_models_take_a_float32_adapter(family, model):
    call, adapter = call_for(family, model), filled_adapter(model)
    with attach(model, adapter):
        expected = call(model)
    base = call(model)
    exact = ("encoder_attention_mask", "guidance")  # numbers that bfloat16 would change, not features
    half = {
        k: v.bfloat16() if torch.is_tensor(v) and v.is_floating_point() and k not in exact else v
        for k, v in call.kwargs.items()
    }
    model.bfloat16()
    with attach(model, adapter):
        out = model(**half, return_dict=False)[0]
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).abs().mean() < 0.25 * (expected - base).abs().mean()


@torch.no_grad()
def test_tokens_that_are_no_video_are_refused(family, model):
    adapter, spec = filled_adapter(model), spec_for(model)
    call = call_for(family, model)
    time, height, width = call.grid
    with pytest.raises(
        ValueError, match=rf"sees \d+ tokens, but a video of {time}x{height}x{width + 1} has \d+: extra"
    ):
        with tapped(model, spec, adapter.kernels_for(spec), lambda: (time, height, width + 1)):
            call(model)
    assert leftovers(model) == []


def test_wrong_model_and_wrong_blocks_are_named(family, model):
    adapter = filled_adapter(model)
    count = adapter.num_blocks
    with pytest.raises(ValueError, match=f"no block {count} to keep: this adapter has 0-{count - 1}"):
        with attach(model, adapter, keep=[0, count]):
            pass
    wider, deeper = build(family, heads=3), build(family, blocks=3)
    for other in (wider, deeper, build("wan" if family == "ltx" else "ltx")):
        with pytest.raises(
            ValueError, match=f"was made for {family}( 2.0)? with {count} blocks of 32 channels, but the model is"
        ):
            with attach(other, adapter):
                pass


def test_ltx_without_its_sizes_is_refused():
    model = build("ltx")
    call = call_for("ltx", model)
    del call.kwargs["height"]
    with pytest.raises(ValueError, match="needs num_frames, height, width"), attach(model, filled_adapter(model)):
        call(model)


@torch.no_grad()
def test_cogvideox_15_with_temporal_patches():
    model = build("cogvideox", patch_size_t=2, patch_bias=False)
    call, adapter = call_for("cogvideox", model, latent=(6, 4, 6)), filled_adapter(model)
    assert spec_for(model).grid((1, 4, 6, 4, 6)) == call.grid == (3, 2, 3)
    base = call(model)
    with attach(model, adapter):
        assert (call(model) - base).abs().max() > 1e-2

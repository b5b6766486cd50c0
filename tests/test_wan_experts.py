"""The two experts of Wan 2.2 A14B as one model: each acts, learns and is placed at its own times."""

import pytest
import torch
from tiny_dits import build, filled_adapter

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.guidance.cost import gradient_pass, guidance_memory, guidance_share
from det_core.guidance.guide import Plan
from det_core.guidance.reference import MotionReference
from det_core.guidance.sampling import MotionGuidance
from det_core.models.compute.memory import training_memory
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families import spec_for
from det_core.models.families.projections import projections
from det_core.models.families.spec import EXPERTS
from det_core.models.families.wan import Experts
from det_core.models.sample import sample
from det_core.training.loop import TrainConfig, train_motion_adapter


@pytest.fixture
def pair():
    return Experts(build("wan", blocks=3), build("wan", blocks=3, seed=7), 875.0)


def call(model, t):
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 3, 4, 6, generator=generator), torch.randn(2, 5, 16, generator=generator)
    return model(x, timestep=torch.tensor(t), encoder_hidden_states=text, return_dict=False)[0]


def test_blocks_alternate_so_that_the_first_third_is_that_of_both(pair):
    spec = spec_for(pair)
    assert (spec.layout, spec.num_blocks, spec.boundary) == ("diffusers", 6, 875.0)
    assert [tap.input for tap in spec.taps[:3]] == ["high.blocks.0.attn1", "low.blocks.0.attn1", "high.blocks.1.attn1"]
    assert projections(spec)[3, "v"].path == "low.blocks.1.attn1.to_v"
    assert MotionAdapter.create(spec, 4, 3).keep == [0, 1, 2]


@torch.no_grad()
def test_a_row_goes_to_the_expert_of_its_time(pair):
    high, low = call(pair.high, [900.0, 875.0]), call(pair.low, [874.0, 1.0])
    assert torch.equal(call(pair, [900.0, 875.0]), high) and torch.equal(call(pair, [874.0, 1.0]), low)
    mixed, apart = call(pair, [100.0, 950.0]), (call(pair.low, [100.0, 0.0])[0], call(pair.high, [0.0, 950.0])[1])
    torch.testing.assert_close(mixed, torch.stack(apart), rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_adapter_changes_the_expert_whose_blocks_it_keeps(pair):
    adapter = filled_adapter(pair)
    plain = call(pair, [950.0, 100.0])
    with attach(pair, adapter, keep=[0, 2, 4]):
        changed = (call(pair, [950.0, 100.0]) - plain).abs().amax((1, 2, 3, 4))
    assert changed[0] > 1e-2 and changed[1] < 1e-5


def test_each_expert_is_trained_at_its_own_noise(pair):
    denoiser = DiffusersDenoiser(pair)
    t = denoiser.sample_t(4000, torch.Generator().manual_seed(0))
    assert abs((t >= 875).float().mean() - 0.5) < 0.03
    assert abs(t[t >= 875].mean() - 937.5) < 3 and abs(t[t < 875].mean() - 437.5) < 15
    latents, cond = torch.randn(1, 4, 3, 4, 6), {"encoder_hidden_states": torch.randn(1, 5, 16)}
    result = train_motion_adapter(denoiser, latents, cond, None, TrainConfig(steps=4, batch=2, mid_dim=4, lr=1e-2))
    assert all(kernel.up.weight.abs().sum() > 0 for kernel in result.adapter.blocks.values())


def test_positions_are_those_of_both_experts(pair):
    denoiser, plain = DiffusersDenoiser(pair), call(pair, [950.0, 100.0])
    with denoiser.at_positions((0.0, 4.0, 8.0)):
        assert ((call(pair, [950.0, 100.0]) - plain).abs().amax((1, 2, 3, 4)) > 1e-4).all()
    assert torch.equal(call(pair, [950.0, 100.0]), plain)


def test_a_step_keeps_the_activations_of_one_expert(pair):
    spec, one = spec_for(pair), spec_for(pair.high)
    settings = {"policy": "none", "dtype": torch.float32, "parameters": 0}
    latents = (1, 4, 3, 4, 6)
    assert training_memory(spec, latents, **settings) == training_memory(one, latents, **settings)


def guided(model, loss: str, steps: int) -> torch.Tensor:
    """A video guided by a source, the model being called as on the command line."""
    denoiser, generator = DiffusersDenoiser(model), torch.Generator().manual_seed(0)
    source, noise = torch.randn(2, 1, 4, 3, 4, 6, generator=generator)
    prompt, empty = ({"encoder_hidden_states": t} for t in torch.randn(2, 1, 5, 16, generator=generator))
    guidance = MotionGuidance(MotionReference(source, "wan"), empty, Plan.for_spec(denoiser.spec, loss))
    return sample(denoiser, prompt, empty, noise, steps=steps, cfg=3.0, guidance=guidance)


@pytest.mark.parametrize("loss", ["features", "flow", "latents"])
def test_guidance_is_that_of_the_expert_that_makes_the_first_steps(pair, loss):
    """The source, which has no noise, is read through it as well, as where its file alone is guided in ComfyUI."""
    assert spec_for(pair).guide_block == 2 * spec_for(pair.high).guide_block
    assert torch.equal(guided(pair, loss, steps=1), guided(pair.high, loss, steps=1))
    assert guided(pair, loss, steps=8).isfinite().all() and pair.boundary == 875.0


def test_guidance_costs_what_it_costs_with_one_expert(pair):
    spec, one, shape = spec_for(pair), spec_for(pair.high), torch.Size((1, 4, 3, 4, 6))
    for costs in (
        lambda spec, block: guidance_memory(spec, shape, block, policy="none", dtype=torch.float32),
        lambda spec, block: guidance_memory(spec, shape, block, policy="full", dtype=torch.float32),
        lambda spec, block: gradient_pass(spec, shape, block, recomputed=True),
        lambda spec, _block: guidance_share(spec, shape, Plan.for_spec(spec), steps=20),
    ):
        assert costs(spec, 2) == costs(one, 1)


@torch.no_grad()
def test_an_adapter_of_both_comes_apart_into_one_for_each(pair, tmp_path):
    both = filled_adapter(pair)
    both.metadata["kept_blocks"] = "0-2"
    with attach(pair, both, keep=both.keep):
        wanted = call(pair, [950.0, 900.0]), call(pair, [400.0, 100.0])
    for name, expected, t, kept in zip(EXPERTS, wanted, ([950.0, 900.0], [400.0, 100.0]), ([0, 1], [0]), strict=True):
        both.of_experts(EXPERTS)[name].save(tmp_path / "one.safetensors")
        one, model = MotionAdapter.load(tmp_path / "one.safetensors"), pair.get_submodule(name)
        assert (one.num_blocks, one.keep, one.metadata["expert"]) == (3, kept, name)
        with attach(model, one, keep=one.keep):
            assert torch.equal(call(model, t), expected)

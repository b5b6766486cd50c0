"""What guidance is computed to cost against what it costs, on small models of every family."""

from __future__ import annotations

import pytest
import torch
from memory_meter import MemoryMeter
from tiny_dits import WIDE, build, call_for
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from det_core.guidance.cost import gradient_pass, guidance_memory, guidance_share
from det_core.guidance.guide import Plan
from det_core.guidance.losses import feature_loss, motion_features
from det_core.guidance.reading import read_tokens
from det_core.models.compute.checkpointing import checkpointed
from det_core.models.compute.memory import mlp_ratio_of
from det_core.models.embedded.model import build_transformer
from det_core.models.families import spec_for

LTX = {"ltx": dict(heads=6, attention_head_dim=64, cross_attention_dim=384)}  # one latent cell a token
MODELS = {**WIDE, **LTX}


@pytest.fixture(params=MODELS)
def guided(request):
    """(spec, model, latent shape, what runs the model, what computes one gradient under a policy) of one family."""
    family = request.param
    model = build(family, blocks=6 if family == "hunyuan_video" else 4, **MODELS[family])
    latent = (5, 8, 10) if family == "ltx" else (5, 16, 20)
    spec, call = spec_for(model), call_for(family, model, latent, batch=1)
    x = call.kwargs["hidden_states"].requires_grad_()
    target = torch.randn(1, call.grid[0], call.grid[1] * call.grid[2], spec.dim)

    def gradient(policy: str) -> None:
        def backward(tokens: torch.Tensor) -> None:
            feature_loss(motion_features(tokens, call.grid), target).sum().backward()

        x.grad = None
        with checkpointed(model, spec, policy, spec.guide_block):
            read_tokens(model, spec, spec.guide_block, call.grid, lambda: call(model), backward)

    return spec, model, torch.Size((1, 4, *latent)), lambda: call(model), gradient


@pytest.mark.parametrize("policy", ["none", "full"])
def test_memory_is_within_15_percent(guided, policy):
    spec, model, shape, _, gradient = guided
    with MemoryMeter() as meter:
        gradient(policy)
    settings = {"policy": policy, "dtype": torch.float32, "mlp_ratio": mlp_ratio_of(model, spec), "text_tokens": 5}
    estimate = guidance_memory(spec, shape, spec.guide_block, **settings)
    assert estimate == pytest.approx(meter.peak, rel=0.15)


@pytest.mark.parametrize("policy", ["none", "full"])
def test_arithmetic_is_within_15_percent(guided, policy):
    spec, model, shape, call, gradient = guided
    counts = []
    for run in (lambda: gradient(policy), torch.no_grad()(call)):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        counts.append(counter.get_total_flops())
    text = 5 if spec.family.text_tokens else 0  # that runs through the blocks
    computed = gradient_pass(
        spec,
        shape,
        spec.guide_block,
        recomputed=policy == "full",
        mlp_ratio=mlp_ratio_of(model, spec),
        text_tokens=text,
    )
    assert computed == pytest.approx(counts[0] / counts[1], rel=0.15)


def test_the_share_of_a_sampling_counts_updates_passes_and_the_look_at_the_source():
    spec = spec_for(build_transformer(8, 2))
    shape = torch.Size((1, 16, 9, 8, 8))
    plan = Plan.for_spec(spec)
    update = gradient_pass(spec, shape, 3, recomputed=False)
    share = guidance_share(spec, shape, plan, steps=20, recomputed=False)
    assert share == pytest.approx((4 * update + 0.5) / 40)
    assert share == pytest.approx(0.13, abs=0.02)  # timed on this model: 1.13 times plain sampling
    assert guidance_share(spec, shape, plan, steps=20, cfg=False) > 2 * share
    assert guidance_share(spec, shape, Plan.for_spec(spec, "latents"), steps=20) == pytest.approx(12 / 20)

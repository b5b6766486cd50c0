"""Memory: what training is estimated to take against what it takes, the checkpointing chosen by it, and offloading."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from memory_meter import MemoryMeter
from tiny_dits import WIDE, WITH_TWINS, build, call_for, filled_adapter

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.compute import memory
from det_core.models.compute.checkpointing import POLICIES, checkpointed
from det_core.models.compute.memory import choose_policy, mlp_ratio_of, training_memory
from det_core.models.compute.offload import offload_blocks
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import spec_for
from det_core.training.loop import TrainConfig, train_motion_adapter

LATENT = (5, 16, 20)


def latent_of(family: str) -> tuple[int, int, int]:
    """As many tokens for each: some have patches of single cells."""
    time, height, width = LATENT
    return (time, height // 2, width // 2) if family in ("hunyuan_video15", "ltx2") else LATENT


def peak_of_a_step(family: str, model, policy: str, dtype: torch.dtype, batch: int, adapter, latent) -> int:
    call = call_for(family, model, latent, batch=batch)
    exact = ("encoder_attention_mask", "guidance")
    call.kwargs = {
        k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() and k not in exact else v
        for k, v in call.kwargs.items()
    }
    with attach(model, adapter), checkpointed(model, spec_for(model), policy), MemoryMeter() as meter:
        call(model).float().square().mean().backward()
    return meter.peak


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(
    ("family", "blocks", "latent"),
    [(f, 3 if f in WITH_TWINS else 5, latent_of(f)) for f in WIDE]
    + [pytest.param("hunyuan_video15", 5, LATENT, marks=pytest.mark.slow)],
)
def test_the_estimate_is_within_15_percent_of_a_step(family, blocks, latent, dtype, policy):
    batch = 2
    model = build(family, blocks=blocks, **WIDE[family]).to(dtype)
    spec = spec_for(model)
    adapter = filled_adapter(model, mid_dim=24, kernel_size=5)
    peak = peak_of_a_step(family, model, policy, dtype, batch, adapter, latent)
    estimate = training_memory(
        spec,
        latent,
        policy=policy,
        dtype=dtype,
        mid_dim=24,
        kernel_size=5,
        batch=batch,
        text_tokens=5,
        mlp_ratio=mlp_ratio_of(model, spec),
    )
    assert estimate.activations == pytest.approx(peak, rel=0.15)
    assert estimate.adapter == 16 * sum(p.numel() for p in adapter.parameters())


@pytest.mark.parametrize("policy", POLICIES)
def test_the_estimate_of_the_embedded_model_counts_its_attention_maps(policy):
    model = build_transformer(4, 2).eval().requires_grad_(False)
    denoiser = DiffusersDenoiser(model, build_scheduler())
    adapter = MotionAdapter.create(denoiser.spec, 16)
    x, t, cond = torch.randn(2, 16, 7, 8, 8), torch.tensor([500, 500]), {"encoder_hidden_states": torch.randn(2, 8, 64)}
    with denoiser.attached(adapter), denoiser.checkpointed(policy), MemoryMeter() as meter:
        denoiser.predict_velocity(x, t, cond).square().mean().backward()
    estimate = training_memory(denoiser.spec, x.shape, policy=policy, dtype=torch.float32, mid_dim=16, batch=2)
    assert estimate.activations == pytest.approx(meter.peak, rel=0.15)


def test_adapter_memory_is_linear_in_blocks_width_and_kernel():
    spec = spec_for(build("cogvideox"))

    def adapter(**changes):
        return training_memory(spec, LATENT, policy="full", dtype=torch.bfloat16, **changes).adapter

    assert adapter(mid_dim=64, kernel_size=3) == 2 * adapter(mid_dim=32, kernel_size=3)
    assert adapter(mid_dim=64, kernel_size=9) == 3 * adapter(mid_dim=64, kernel_size=3)


def test_less_is_kept_from_policy_to_policy_and_the_paper_fits_where_it_should():
    """CogVideoX-5B at 49x480x720, bf16: METHOD of the paper's cost, within what is known of it."""
    model = build("cogvideox")
    spec = copy.copy(spec_for(model))
    object.__setattr__(spec, "dim", 3072)
    object.__setattr__(spec, "taps", spec.taps[:1] * 42)
    none, attention, full = (
        training_memory(spec, (13, 60, 90), policy=policy, dtype=torch.bfloat16).activations / 1e9
        for policy in POLICIES
    )
    assert none > attention > full
    assert none == pytest.approx(42 * 13.8 * 0.1092, rel=0.1)
    assert attention - full == pytest.approx(42 * 0.1092, rel=0.05)
    assert full + 11.1 + 1.6 < 20.5


@pytest.fixture
def denoiser():
    return DiffusersDenoiser(build("wan", blocks=3), None)


@pytest.mark.parametrize(("share", "expected"), [(1.2, "none"), (0.9, "attention"), (None, "none")])
def test_the_fastest_policy_that_fits_is_chosen(denoiser, monkeypatch, share, expected):
    shape, config = torch.Size((1, 4, 9, 32, 32)), TrainConfig(mid_dim=8)
    adapter = MotionAdapter.create(denoiser.spec, 8)
    needed = memory._needed(denoiser, adapter, shape, config, "none")
    free = None if share is None else math.ceil(needed * share)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert choose_policy(denoiser, adapter, shape, config) == expected


def test_what_cannot_fit_is_refused_with_what_does(denoiser, monkeypatch):
    shape, config = torch.Size((1, 4, 13, 60, 90)), TrainConfig(mid_dim=8)
    adapter = MotionAdapter.create(denoiser.spec, 8)
    half = memory._needed(denoiser, adapter, torch.Size((1, 4, 7, 60, 90)), config, "full")
    monkeypatch.setattr(memory, "free_bytes", lambda device: half)
    with pytest.raises(ValueError, match=r"needs about .* GB beside .*: what fits is 21 frames at this size or all "):
        choose_policy(denoiser, adapter, shape, config)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    with pytest.raises(ValueError, match="no size of this video fits. Nothing was trained"):
        choose_policy(denoiser, adapter, shape, config)


@pytest.mark.parametrize(
    ("device", "size", "offered"), [("cuda", (2, 2, 2), True), ("cuda", (13, 60, 90), False), ("cpu", (2, 2, 2), False)]
)
def test_low_vram_is_offered_where_the_weights_are_what_is_too_large(monkeypatch, device, size, offered):
    denoiser = DiffusersDenoiser(build("wan", blocks=30), None)
    denoiser.device = torch.device(device)
    shape, config = torch.Size((1, 4, *size)), TrainConfig(mid_dim=1)
    adapter = MotionAdapter.create(denoiser.spec, 1)
    free = memory._needed(denoiser, adapter, shape, config, "full") - 1
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with pytest.raises(ValueError) as refused:
        choose_policy(denoiser, adapter, shape, config)
    assert ("this video with --preset low_vram of train and transfer" in str(refused.value)) == offered


@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video", "wan"])
def test_an_offloaded_model_trains_to_the_same_adapter(family):
    """On the CPU the blocks' weights come and go as they would on a GPU; between calls they are placeholders."""
    scheduler = build_scheduler() if family == "cogvideox" else None
    latents = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    config = TrainConfig(steps=3, lr=1e-2, mid_dim=4)
    results = []
    for offloaded in (False, True):
        model = build(family)
        call = call_for(family, model, (3, 4, 6), batch=1)
        cond = {k: v for k, v in call.kwargs.items() if k.startswith("encoder") or k == "pooled_projections"}
        if offloaded:
            offload_blocks(model, spec_for(model), "cpu")
            assert {p.device.type for p in model.parameters()} == {"meta"}
        denoiser = DiffusersDenoiser(model, scheduler, device="cpu")
        results.append(train_motion_adapter(denoiser, latents, cond, None, config))
    for ours, theirs in zip(*(r.adapter.parameters() for r in results), strict=True):
        assert torch.equal(ours, theirs)
    assert {p.device.type for p in model.parameters()} == {"meta"}

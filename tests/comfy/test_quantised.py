"""Training through quantised weights: exact gradients, a session that goes on, a base that stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import CASES, EVERY_FORM
from small_weights import FORMATS, build, gradient_through, loaded, quantised_state_dict, randomly
from untouched import overridden

UNET = dict(
    image_model="wan2.1",
    dim=128,
    num_heads=1,
    ffn_dim=64,
    num_layers=2,
    text_dim=64,
    freq_dim=256,
    in_dim=16,
    out_dim=16,
)


@pytest.fixture(scope="module")
def weights(pack) -> dict:
    return dict(build("WAN21_T2V", UNET).model.diffusion_model.state_dict())


def model(weights: dict, form: str):
    """As a loader node makes it: in inference mode."""
    with torch.inference_mode():
        return loaded(quantised_state_dict({k: v.clone() for k, v in weights.items()}, form), {"text_dim": 64})


def sample(patcher) -> torch.Tensor:
    import comfy.sample

    noise, text = randomly(1, 16, 3, 8, 8), [[randomly(1, 6, 64), {}]]
    with torch.inference_mode():
        return comfy.sample.sample(
            patcher, noise, 2, 1.0, "euler", "simple", text, text, torch.zeros_like(noise), disable_pbar=True, seed=0
        ).clone()


def train(patcher, checkpointing: bool = True, steps: int = 3):
    from det_pack.det_core.training.loop import TrainConfig, train_motion_adapter
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.trainable import trainable

    with torch.inference_mode():
        spec = model_spec(patcher)
        sizes = {"mid_dim": 8, "kernel_size": 3, "checkpoint": "full" if checkpointing else "none"}
        config = TrainConfig.for_spec(spec, steps=steps, lr=1e-2, seed=3, **sizes)
        text = [[randomly(1, 6, 64), {}]]
        with trainable(patcher, text, randomly(1, 16, 3, 8, 8), spec, 0) as (denoiser, x0):
            return train_motion_adapter(denoiser, x0, {}, None, config)


@pytest.mark.parametrize("form", FORMATS)
def test_a_layers_gradient_is_that_of_its_dequantised_weight(weights, form):
    from det_pack.det_core.adapter.attach import overridden as overriding
    from det_pack.nodes._comfy.gradients.quantised import differentiable_forwards, quantised_layers

    dit = model(weights, form).model.diffusion_model.float()
    layers = quantised_layers(dit)
    assert len(layers) == 2 * 10, "q, k, v, o of two attentions and two layers of the MLP, in two blocks"
    with overriding(differentiable_forwards(dit)):
        for layer in layers:
            found, grad = gradient_through(layer)
            expected = grad.double() @ layer.weight.dequantize().double()
            assert (found - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("form", FORMATS)
def test_two_trainings_then_unload_then_sample(weights, form):
    import comfy.model_management as mm

    patcher = model(weights, form)
    base = sample(patcher)
    first = train(patcher)
    assert first.losses["total"][-1] < first.losses["total"][0]
    assert all(kernel.up.weight.abs().max() > 0 for kernel in first.adapter.blocks.values())
    second = train(patcher, checkpointing=False)
    assert second.losses["total"] == pytest.approx(first.losses["total"], rel=1e-5)
    assert torch.equal(sample(patcher), base)
    with torch.inference_mode():  # as a node that needs memory; outside of it the core itself breaks such weights
        mm.unload_all_models()
    assert torch.equal(sample(patcher), base)
    assert train(patcher, steps=1).losses["total"][0] == first.losses["total"][0]
    assert torch.equal(sample(patcher), base)
    assert overridden(patcher.model) == []


def test_old_files_of_scaled_fp8(weights):
    """`scaled_fp8` and `scale_weight`, as the files of the core's Wan 2.2 templates have them."""
    state = quantised_state_dict({k: v.clone() for k, v in weights.items()}, "scaled fp8")
    old = {k.replace("weight_scale", "scale_weight"): v for k, v in state.items() if not k.endswith("comfy_quant")}
    old["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    with torch.inference_mode():
        patcher = loaded(old, {"text_dim": 64})
    base = sample(patcher)
    losses = [train(patcher).losses["total"] for _ in range(2)]
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
    assert torch.equal(sample(patcher), base)


FORMS = ("int8 ConvRot", "scaled fp8", "nvfp4")


def test_the_documentation_says_so():
    """bfloat16 is run by `test_every_class`."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "use" / "bases.md").read_text(encoding="utf-8")
    lines = [f"| model, as it is used | bf16 | {' | '.join(FORMS)} |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(['yes'] * 4)} |" for name in EVERY_FORM]
    assert "\n".join(lines) + "\n\n" in page, "bases.md should have:\n" + "\n".join(lines)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", EVERY_FORM)
def test_every_base(pack, tmp_path, monkeypatch, name, form):
    """Two trainings, unload, sample, with the nodes themselves."""
    import comfy.model_management as mm
    import walk as nodes
    from det_pack.nodes._comfy.gradients.quantised import quantised_layers
    from det_pack.nodes._comfy.loading import paths

    case = CASES[name]
    monkeypatch.setattr(paths, "state_path", lambda run: tmp_path / f"{run}.state.safetensors")
    with torch.inference_mode():
        unet = case.unet | EVERY_FORM[name]
        state = {k: v.clone() for k, v in build(case.config, unet).model.diffusion_model.state_dict().items()}
        patcher = loaded(quantised_state_dict(state, form), unet)
        assert len(quantised_layers(patcher.model.diffusion_model)) >= 12
        base = nodes.sampled(patcher, case)
        assert nodes.trained(patcher, case) == nodes.WORKS, "twice: with and without checkpointing"
        mm.unload_all_models()
        assert torch.equal(nodes.sampled(patcher, case), base)
        assert nodes.applied(patcher, case) == nodes.WORKS

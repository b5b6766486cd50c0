"""Models that compute in float16: gradients of a mean over a real video's tokens, and other formats bit for bit."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from small_training import equal, small
from test_optimiser import Fixed
from tiny_dits import build

from det_core.guidance.guide import Guide, Plan
from det_core.guidance.losses import LOSSES
from det_core.models.compute.precision import stored_in
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families.wan import Experts
from det_core.training import loop
from det_core.training.loop import TrainConfig, fit, train_motion_adapter

GRID = (21, 30, 52)  # tokens of 81 frames of 832x480
WIDTH = 64


class InFormat:
    """A model whose tokens are the latents, made wider in one number format."""

    signal, noise = 0.6, 0.8

    def __init__(self, dtype: torch.dtype):
        self.wider = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)

    def tokens(self, x, block, reader):
        return reader(x.to(self.wider.dtype).flatten(2).transpose(1, 2) @ self.wider * 8)

    def clean(self, x):
        return x


def guided_gradient(dtype: torch.dtype) -> torch.Tensor:
    source, x = torch.randn(2, 1, 4, *GRID, generator=torch.Generator().manual_seed(0))
    spec = SimpleNamespace(patch=(1, 1, 1), grid=lambda shape: tuple(shape[-3:]))
    guide, model = Guide(Plan(LOSSES["features"], 0, 1, 3.0), spec, source), InFormat(dtype)
    guide.look(model)
    return guide._gradient(x, model).flatten()


def test_guidance_by_features_keeps_its_gradient_in_float16():
    exact, half = guided_gradient(torch.float32), guided_gradient(torch.float16)
    assert torch.cosine_similarity(exact, half, 0) > 0.9999
    assert (half == 0).float().mean() < 1e-3
    assert 1e-3 < half.square().mean().sqrt() < 1e2  # far from both ends of float16


@pytest.mark.parametrize("experts", [1, 2])
def test_a_wan_in_bfloat16_is_called_in_it_where_there_is_no_autocast(tmp_path, experts):
    """As on MPS; diffusers keeps some of its weights in float32, the first one among them."""
    build("wan").save_pretrained(tmp_path)
    kind = type(build("wan"))
    model = kind.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert next(model.parameters()).dtype == torch.float32
    model = model if experts == 1 else Experts(model, model, 875.0)
    denoiser = DiffusersDenoiser(model)
    assert stored_in(model) == denoiser.dtype == torch.bfloat16
    x, text = torch.randn(1, 4, 3, 4, 6), torch.randn(1, 5, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        velocity = denoiser.predict_velocity(x, torch.tensor([900.0]), {"encoder_hidden_states": text})
    assert velocity.shape == x.shape and velocity.isfinite().all()


class Weighted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) / 8)


def trained_gradient(dtype: torch.dtype) -> torch.Tensor:
    """Of one step on 16 x 21 x 60 x 104 numbers, with two layers after what is trained."""
    generator, module = torch.Generator().manual_seed(1), Weighted()
    tokens = torch.randn(21 * 30 * 52, 8, generator=generator).to(dtype)
    inner = (torch.randn(8, WIDTH, generator=generator) / 30).to(dtype)
    out = (torch.randn(WIDTH, WIDTH, generator=generator) / 60).to(dtype)
    aim = torch.randn(len(tokens), WIDTH, generator=generator) / 2
    seen: list[torch.Tensor] = []

    def draw(_generator):
        made = (tokens @ module.weight.to(dtype) @ inner @ out).float()
        return {"total": (made - aim).square().mean()}

    def look(_run, _losses):
        seen.append(module.weight.grad.flatten().clone())

    config = TrainConfig(steps=1, checkpoint="none", max_grad_norm=1e9)
    fit(Fixed(), module, draw, config, learns_from="", shape=torch.Size(()), on_step=look)
    return seen[0]


def test_training_keeps_its_gradient_in_float16():
    exact, half = trained_gradient(torch.float32), trained_gradient(torch.float16)
    assert torch.cosine_similarity(exact, half, 0) > 0.999
    assert torch.allclose(half.norm(), exact.norm(), rtol=0.01)


@pytest.mark.parametrize("computes", [nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)], ids=["fp32", "bf16"])
def test_the_scale_of_the_loss_changes_no_bit_of_other_formats(denoiser, job, computes, monkeypatch):
    with computes():
        scaled = train_motion_adapter(denoiser, *job, small()).adapter
        monkeypatch.setattr(loop, "LOSS_SCALE", 1.0)
        assert equal(scaled, train_motion_adapter(denoiser, *job, small()).adapter)

"""The losses of the methods that DeT is compared with, against computations written out place by place."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from numeric import agrees_with_finite_difference, randn

from det_core.baselines.lora_losses import DrawnForLoRA, dreambooth, motion_director, spectral
from det_core.baselines.spectral import frequency_weights, global_loss, local_loss, residual_loss
from det_core.baselines.training_free import (
    motion_channels,
    motion_channels_loss,
    spatial_means,
    spatial_means_loss,
    strongest_attention,
    strongest_attention_loss,
)
from det_core.guidance.losses import motion_features

GRID = (3, 2, 4)
PLACES = GRID[1] * GRID[2]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.flatten() @ b.flatten() / (a.norm() * b.norm())).item()


def rows_of(tokens: torch.Tensor, frame: int) -> torch.Tensor:
    return tokens[frame * PLACES : (frame + 1) * PLACES]


def test_dmt_frame_by_frame():
    tokens, source = randn(2, 24, 6, seed=0), randn(1, 24, 6, seed=1)
    got = spatial_means_loss(tokens, spatial_means(source, GRID), GRID)
    for video in range(2):
        apart = []
        for f in range(3):
            for i in range(3):
                if f != i:
                    a, b = (rows_of(x, f).mean(0) - rows_of(x, i).mean(0) for x in (tokens[video], source[0]))
                    apart.append(1 - cosine(a, b))
        assert got[video].item() == pytest.approx(sum(apart) / 6, rel=1e-5)


def test_moft_keeps_the_channels_of_the_first_component_place_by_place():
    tokens, source = randn(2, 24, 50, seed=2), randn(1, 24, 50, seed=3)
    source[..., [7, 31]] *= 20  # what moves most
    rows = motion_features(source, GRID).flatten(0, 2)
    loadings = torch.linalg.svd(rows.double()).Vh[0].abs()
    chosen = loadings.topk(2).indices  # 4% of 50
    features, found = motion_channels(source, GRID)
    assert set(found.tolist()) == set(chosen.tolist()) == {7, 31}
    where = torch.rand(3, PLACES, generator=torch.Generator().manual_seed(4))
    got = motion_channels_loss(tokens, (features, found), GRID, where)
    for video in range(2):
        total = 0.0
        for frame in range(3):
            for place in range(PLACES):
                places = [f * PLACES + place for f in range(3)]
                a, b = ((x[frame * PLACES + place] - x[places].mean(0))[found] for x in (tokens[video], source[0]))
                total += where[frame, place].item() * (1 - cosine(a, b))
        assert got[video].item() == pytest.approx(total / where.sum().item(), rel=1e-4)


def test_motionclone_place_by_place():
    q, k, source_q, source_k = (randn(1, 2, 24, 5, seed=s) for s in (5, 6, 7, 8))

    def attention(q, k, head: int, place: int, frame: int) -> list[float]:
        row = q[0, head, frame * PLACES + place]
        logits = [(row @ k[0, head, f * PLACES + place]).item() / 5**0.5 for f in range(3)]
        return [math.exp(x) / sum(math.exp(y) for y in logits) for x in logits]

    where = torch.rand(3, PLACES, generator=torch.Generator().manual_seed(4))
    total, weights = 0.0, 0.0
    for head in range(2):
        for place in range(PLACES):
            for frame in range(3):
                wanted = attention(source_q, source_k, head, place, frame)
                strongest = wanted.index(max(wanted))
                found = attention(q, k, head, place, frame)[strongest]
                total += where[frame, place].item() * (found - wanted[strongest]) ** 2
                weights += where[frame, place].item()
    got = strongest_attention_loss(q, k, strongest_attention(source_q, source_k, GRID), GRID, where)
    assert got.item() == pytest.approx(total / weights, rel=1e-4)


def haar(values: list[float], levels: int) -> list[list[float]]:
    """Bands of the Haar wavelet: high ones from fine to coarse, then the low one."""
    bands = []
    for _ in range(levels):
        pairs = list(zip(values[::2], values[1::2], strict=False))
        bands.append([(a - b) / 2**0.5 for a, b in pairs])
        values = [(a + b) / 2**0.5 for a, b in pairs]
    return [*bands, values]


@pytest.mark.parametrize("frames, levels", [(9, 3), (13, 3), (6, 2), (4, 1), (3, 1)])
def test_sma_in_time_is_the_wavelet_of_each_element(frames, levels):
    found, wanted = randn(1, 2, frames, 2, 2, seed=9), randn(1, 2, frames, 2, 2, seed=10)
    expected = [0.0] * (levels + 1)
    for c, y, x in ((c, y, x) for c in range(2) for y in range(2) for x in range(2)):
        a, b = (haar(v[0, c, :, y, x].diff().tolist(), levels) for v in (found, wanted))
        for band in range(levels + 1):
            expected[band] += sum(abs(p - q) for p, q in zip(a[band], b[band], strict=True)) / len(a[band]) / 8
    assert global_loss(found, wanted).item() == pytest.approx(sum(expected), rel=1e-5)


def test_sma_of_two_frames_has_no_time_but_a_gradient():
    x = randn(1, 2, 2, 2, 2, seed=11).requires_grad_()
    loss = global_loss(x, randn(1, 2, 2, 2, 2, seed=12))
    loss.backward()
    assert loss.item() == 0 and x.grad.abs().max() == 0


def test_sma_in_the_picture_frequency_by_frequency():
    height, width = 4, 6
    found, wanted = randn(1, 1, 3, height, width, seed=13), randn(1, 1, 3, height, width, seed=14)

    def transform(v: torch.Tensor, frame: int, u: int, w: int) -> complex:
        step = v[0, 0, frame + 1] - v[0, 0, frame]
        return sum(
            step[y, x].item() * cmath.exp(-2j * cmath.pi * (u * y / height + w * x / width))
            for y in range(height)
            for x in range(width)
        )

    bins = [(f, u, w) for f in range(2) for u in range(height) for w in range(width)]
    size = sum(abs(transform(wanted, *b)) for b in bins) / len(bins)
    total = 0.0
    for frame, u, w in bins:
        a, b = transform(found, frame, u, w), transform(wanted, frame, u, w)
        r = min(u, height - u) ** 2 + min(w, width - w) ** 2
        weight = ((height / 2) ** 2 + (width / 2) ** 2) ** 0.05 - r**0.05 + 1
        total += weight * (abs(abs(a) - abs(b)) + abs(cmath.phase(a / b)) * abs(b) / size)
    assert local_loss(found, wanted).item() == pytest.approx(total / len(bins), rel=1e-4)
    assert frequency_weights(height, width).argmax() == 0


def test_vmc_frame_by_frame():
    found, wanted = randn(2, 3, 4, 2, 2, seed=15), randn(2, 3, 4, 2, 2, seed=16)
    pairs = [
        cosine(found[b, :, f + 1] - found[b, :, f], wanted[b, :, f + 1] - wanted[b, :, f])
        for b in range(2)
        for f in range(3)
    ]
    assert residual_loss(found, wanted).item() == pytest.approx(1 - sum(pairs) / 6, rel=1e-5)


TOKENS = randn(1, 24, 50, seed=17)
CLIP = randn(1, 2, 9, 4, 4, seed=18)
Q, K = (randn(1, 2, 24, 5, seed=s) for s in (19, 20))


@pytest.mark.parametrize(
    "loss, shape",
    [
        (lambda x: spatial_means_loss(x, spatial_means(TOKENS, GRID), GRID), TOKENS.shape),
        (lambda x: motion_channels_loss(x, motion_channels(TOKENS, GRID), GRID), TOKENS.shape),
        (lambda x: strongest_attention_loss(x, K, strongest_attention(Q, K, GRID), GRID), Q.shape),
        (lambda x: strongest_attention_loss(Q, x, strongest_attention(Q, K, GRID), GRID), K.shape),
        (lambda x: residual_loss(x, CLIP), CLIP.shape),
        (lambda x: global_loss(x, CLIP), CLIP.shape),
        (lambda x: local_loss(x, CLIP), CLIP.shape),
    ],
    ids=["dmt", "moft", "motionclone q", "motionclone k", "vmc", "sma in time", "sma in the picture"],
)
def test_gradients_by_finite_differences(loss, shape):
    assert agrees_with_finite_difference(loss, randn(*shape, seed=21), tolerance=1e-2)


@pytest.mark.parametrize(
    "loss, terms",
    [
        (dreambooth, {"denoising"}),
        (motion_director, {"denoising", "debiased"}),
        (spectral, {"residual", "global", "local"}),
    ],
)
def test_a_step_of_a_lora_asks_for_the_terms_of_its_method(loss, terms):
    from det_core.models.embedded.base_model import EmbeddedModel
    from det_core.training.config import TrainConfig

    model = EmbeddedModel()
    draw = DrawnForLoRA(
        model.denoiser, torch.randn(1, 16, 9, 8, 8), model.encode_prompts(["a red circle"]), TrainConfig(batch=2), loss
    )
    with torch.no_grad():
        found = draw(torch.Generator().manual_seed(0))
    assert found.keys() == terms | {"total"} and all(math.isfinite(v) and v > 0 for v in found.values())
    assert found["total"].item() == pytest.approx(sum(found[name].item() for name in terms), rel=1e-5)

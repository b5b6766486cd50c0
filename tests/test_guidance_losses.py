"""The three losses of a guidance against computations written out place by place, and their gradients."""

from __future__ import annotations

import pytest
import torch
from numeric import agrees_with_finite_difference, randn

from det_core.guidance.losses import (
    feature_loss,
    flow_loss,
    flow_target,
    latent_loss,
    motion_features,
    motion_flow,
)

GRID = (3, 2, 4)
PLACES = GRID[1] * GRID[2]


def test_features_of_the_source_against_itself_are_at_no_distance_and_a_still_video_has_none():
    features = motion_features(randn(1, 24, 6, seed=0), GRID)
    assert feature_loss(features, features).abs().max() < 1e-6
    still = randn(1, 1, PLACES, 6, seed=1).expand(-1, 3, -1, -1).flatten(1, 2)
    assert motion_features(still, GRID).abs().max() < 1e-6


def test_feature_loss_place_by_place():
    tokens, source = randn(2, 24, 6, seed=2), randn(1, 24, 6, seed=3)
    where = torch.rand(3, PLACES, generator=torch.Generator().manual_seed(4))
    got = feature_loss(motion_features(tokens, GRID), motion_features(source, GRID), where)
    for video in range(2):
        total, weights = 0.0, 0.0
        for frame in range(3):
            for place in range(PLACES):
                rows = [row * PLACES + place for row in range(3)]
                a = tokens[video, frame * PLACES + place] - tokens[video, rows].mean(0)
                b = source[0, frame * PLACES + place] - source[0, rows].mean(0)
                weight = b.norm() * where[frame, place]
                total += weight * (1 - a @ b / (a.norm() * b.norm()))
                weights += weight
        assert got[video].item() == pytest.approx((total / weights).item(), rel=1e-5)


def test_feature_loss_gradient():
    target = motion_features(randn(1, 24, 6, seed=3), GRID)
    assert agrees_with_finite_difference(
        lambda x: feature_loss(motion_features(x, GRID), target), randn(2, 24, 6, seed=2)
    )


def test_flow_of_a_shifted_pattern_is_the_shift():
    """Every token has a direction of its own, which is one place further to the right in each frame."""
    height, width = 3, 5
    q = torch.zeros(1, 1, 2 * height * width, height * width)
    for frame in range(2):
        for place in range(height * width):
            row, column = divmod(place, width)
            q[0, 0, frame * height * width + row * width + (column + frame) % width, place] = 300.0
    grid = (2, height, width)
    hard, soft = (motion_flow(q, q, grid, 0, hard=h)[0].unflatten(0, (height, width)) for h in (True, False))
    assert torch.equal(hard, soft.round())
    assert torch.equal(hard[:, :-1, 1], torch.tensor([0.0, 1.0]).expand(height, width - 1, 2))
    assert torch.equal(hard[:, -1, 1], torch.tensor([0.0, 1.0 - width]).expand(height, 2))
    assert not hard[..., 0, :].any()


def test_flow_loss_place_by_place():
    q, k = randn(2, 2, 24, 4, seed=5), randn(2, 2, 24, 4, seed=6)
    target = flow_target(randn(1, 2, 24, 4, seed=7), randn(1, 2, 24, 4, seed=8), GRID)
    got = flow_loss(q, k, target, GRID)
    place = torch.tensor([[i // GRID[2], i % GRID[2]] for i in range(PLACES)]).double()
    for video in range(2):
        errors = []
        for f in range(3):
            for p in range(PLACES):
                for g in range(3):
                    keys = slice(g * PLACES, (g + 1) * PLACES)
                    logits = sum(k[video, h, keys] @ q[video, h, f * PLACES + p] / 2.0 for h in range(2)) / 2
                    moved = (2 * logits).softmax(0) @ place - place[p]
                    if target[0, f, p, g].any():
                        errors += [(moved - target[0, f, p, g].double()).square()]
        assert got[video].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_flow_loss_gradient():
    k = randn(2, 2, 24, 4, seed=6)
    target = flow_target(randn(1, 2, 24, 4, seed=7), randn(1, 2, 24, 4, seed=8), GRID)
    assert agrees_with_finite_difference(lambda q: flow_loss(q, k, target, GRID), randn(2, 2, 24, 4, seed=5))


def test_latent_loss_pair_by_pair():
    x0, source = randn(2, 3, 4, 2, 2, seed=9), randn(1, 3, 4, 2, 2, seed=10)
    got = latent_loss(x0, source)
    for video in range(2):
        x, y = x0[video], source[0]
        apart = (x - y).square().mean()
        steps = [((x[:, f + 1] - x[:, f]).abs() - (y[:, f + 1] - y[:, f]).abs()).square().mean() for f in range(3)]
        pairs = [
            ((x[:, f] - x[:, g]).abs() - (y[:, f] - y[:, g]).abs()).square().mean() for f in range(4) for g in range(4)
        ]
        expected = 20 * apart + 5 * torch.stack(steps).mean() + 5 * torch.stack(pairs).mean()
        assert got[video].item() == pytest.approx(expected.item(), rel=1e-6)
    assert latent_loss(source, source).item() == 0


def test_latent_loss_gradient_and_weights():
    source = randn(1, 3, 4, 2, 2, seed=10)
    assert agrees_with_finite_difference(lambda x: latent_loss(x, source), randn(2, 3, 4, 2, 2, seed=9))
    ones, x0 = torch.ones(4, 2, 2), randn(2, 3, 4, 2, 2, seed=9)
    assert torch.allclose(latent_loss(x0, source, ones), latent_loss(x0, source))
    half = ones.clone()
    half[:, :, 1:] = 0
    elsewhere = x0.clone()
    elsewhere[..., 1:] += 5
    assert torch.equal(latent_loss(x0, source, half), latent_loss(elsewhere, source, half))

"""Kernels that act in a part of the picture or of the video: nothing happens elsewhere, and weight 1 is no weight."""

import pytest
import torch
from tiny_dits import FAMILIES, build, call_for, filled_adapter

from det_core.adapter.attach import tapped
from det_core.adapter.placement import PlacedKernel, Placement, placed
from det_core.adapter.temporal_kernel import TemporalKernel
from det_core.models.families import spec_for
from det_core.models.families.spec import video_slice

GRID = (5, 4, 6)


def moving_mask() -> torch.Tensor:
    """One column of tokens a time step, (T, H, W)."""
    mask = torch.zeros(GRID)
    for t in range(GRID[0]):
        mask[t, :, t] = 1
    return mask


def test_a_mask_is_read_on_the_token_grid():
    fine = moving_mask().repeat_interleave(8, 1).repeat_interleave(8, 2)  # pixels
    assert torch.equal(Placement(fine).weights(GRID).view(GRID), moving_mask())
    one = Placement(moving_mask()[:1]).weights(GRID).view(GRID)
    assert torch.equal(one, moving_mask()[:1].expand(GRID))
    half = torch.zeros(1, 8, 12)
    half[:, :, :1] = 1  # half of what the first column of tokens covers
    assert torch.equal(Placement(half).weights(GRID).view(GRID)[..., 0], torch.full(GRID[:2], 0.5))


def test_frames_of_a_mask_are_spread_over_the_video():
    mask = torch.zeros(10, 4, 6)  # two pixel frames a latent one
    mask[4] = 1
    assert Placement(mask).weights(GRID).view(GRID)[:, 0, 0].tolist() == [0, 0, 0.5, 0, 0]


def test_a_curve_over_the_frames():
    weights = Placement(over_frames=lambda x: 1 - x).weights(GRID).view(GRID)
    assert weights[:, 1, 2].tolist() == [1, 0.75, 0.5, 0.25, 0]
    both = Placement(moving_mask(), lambda x: 2.0).weights(GRID).view(GRID)
    assert torch.equal(both, 2 * moving_mask())
    assert Placement(over_frames=lambda x: 0.5).weights((1, 2, 2)).tolist() == [[[0.5]] * 4]


@pytest.mark.parametrize(
    "placement", [Placement(), Placement(torch.ones(3, 7, 5)), Placement(over_frames=lambda x: 1.0)]
)
def test_weight_one_everywhere_is_no_weight(placement):
    kernels = {0: TemporalKernel(8, 4)}
    assert placed(kernels, placement, GRID, torch.ones(1)) is kernels


@torch.no_grad()
def test_the_sum_of_two_halves_is_the_whole():
    kernel = TemporalKernel(8, 4, init_std=0.3)
    kernel.up.weight.normal_()
    x, mask = torch.randn(2, 5 * 4 * 6, 8), moving_mask()
    hidden = kernel.hidden(x, GRID)
    parts = [PlacedKernel(kernel, Placement(part).weights(GRID)).expand(hidden, GRID) for part in (mask, 1 - mask)]
    assert torch.allclose(parts[0] + parts[1], kernel.expand(hidden, GRID))
    assert (parts[0].view(2, *GRID, 8)[:, mask == 0] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_outside_the_mask_the_tap_is_bit_identical(family):
    model = build(family)
    spec, call, adapter = spec_for(model), call_for(family, model), filled_adapter(model)
    tap = spec.taps[0]
    results = []

    def keep_result(module, args, result):
        results.append((result[0] if isinstance(result, tuple) else result).clone())

    model.get_submodule(tap.output).register_forward_hook(keep_result)
    mask = torch.zeros(call.grid)
    mask[1:, : call.grid[1] // 2] = 1
    for kernels in ({}, placed({0: adapter.kernels[0]}, Placement(mask), call.grid, torch.ones(1))):
        with tapped(model, spec, kernels, lambda: call.grid):
            call(model)
    base, moved = results
    video = video_slice(tap.tokens, base.shape[1], call.grid, tap.output)
    same = (base == moved).all(dim=-1)
    assert torch.equal(same[:, video], (mask == 0).flatten().expand(len(base), -1))
    assert same.sum() == same.numel() - len(base) * mask.sum()

"""Branches beside attention that DeT is compared with: a 3-D convolution and attention within a window."""

import pytest
import torch
from tiny_dits import FAMILIES, build, call_for, four_blocks

from det_core.adapter.attach import attach
from det_core.adapter.temporal_kernel import TemporalKernel
from det_core.baselines.conv3d import Conv3D, conv3d_adapter
from det_core.baselines.local_attention import LocalAttention, local_attention_adapter
from det_core.models.families import spec_for


def tokens(grid, dim, batch=2, dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    return torch.randn(batch, grid[0] * grid[1] * grid[2], dim, generator=g).to(dtype)


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 3, 5), (5, 4, 2)])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv3d_is_two_convolutions_of_the_video_with_zeros_around_it(grid, size):
    g = torch.Generator().manual_seed(0)
    branch = Conv3D(7, 3, size, 0.1, g)
    torch.nn.init.normal_(branch.up.weight, generator=g)
    x = tokens(grid, 7)
    video = x.transpose(1, 2).reshape(2, 7, *grid)
    conv = torch.nn.functional.conv3d
    hidden = torch.nn.functional.gelu(conv(video, branch.down.weight, padding=size // 2))
    expected = conv(hidden, branch.up.weight, padding=size // 2).reshape(2, 7, -1).transpose(1, 2)
    torch.testing.assert_close(branch.expand(branch.hidden(x, grid), grid), expected, rtol=1e-4, atol=1e-5)


def test_conv3d_that_sees_its_own_place_alone_is_a_temporal_kernel():
    g = torch.Generator().manual_seed(0)
    kernel = TemporalKernel(6, 4, 3, generator=g)
    torch.nn.init.normal_(kernel.up.weight, generator=g)
    branch = Conv3D(6, 4, 3, 0.0, g)
    for own, other in ((branch.down, kernel.down), (branch.up, kernel.up)):
        own.weight.data[..., 1, 1] = other.weight.data
    x, grid = tokens((5, 3, 2), 6), (5, 3, 2)
    torch.testing.assert_close(branch.expand(branch.hidden(x, grid), grid), kernel(x, grid), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid, window", [((1, 1, 1), (3, 3, 3)), ((4, 3, 2), (3, 3, 1)), ((6, 2, 3), (5, 1, 3))])
def test_local_attention_is_attention_masked_to_the_window(grid, window):
    """Against attention over all tokens with a mask, and a bias looked up by the distance of each pair."""
    g = torch.Generator().manual_seed(0)
    branch = LocalAttention(8, 6, window, 2, g)
    torch.nn.init.normal_(branch.offset_bias, generator=g)
    x = tokens(grid, 8)
    query, key, value = (
        layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (branch.query, branch.key, branch.value)
    )
    places = torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, 3)
    offset = places[None] - places[:, None] + torch.tensor(window) // 2  # (query, key, axis)
    inside = ((offset >= 0) & (offset < torch.tensor(window))).all(-1)
    index = (offset[..., 0] * window[1] + offset[..., 1]) * window[2] + offset[..., 2]
    bias = branch.offset_bias[:, index.clamp(0, branch.offset_bias.shape[1] - 1)].masked_fill(~inside, float("-inf"))
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    expected = attended.transpose(1, 2).flatten(2)
    torch.testing.assert_close(branch.hidden(x, grid), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [conv3d_adapter, local_attention_adapter])
def test_branches_start_as_no_change_learn_and_can_be_dropped(family, make):
    model = four_blocks(family)
    spec, call = spec_for(model), call_for(family, model)
    adapter = make(spec, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = call(model)
    with attach(model, adapter):
        out = call(model)
    assert torch.equal(out, plain)
    out.square().mean().backward()
    last = [(branch.up if make is conv3d_adapter else branch.out).weight for branch in adapter.blocks.values()]
    assert all(weight.grad.abs().sum() > 0 for weight in last)
    with torch.no_grad():
        for weight in last:
            weight.add_(0.1)
        with attach(model, adapter, keep=[]):
            assert torch.equal(call(model), plain)
        outputs = []
        for keep in (adapter.keep, None):
            with attach(model, adapter, keep=keep):
                outputs.append(call(model))
    assert adapter.keep == [0, 1] and len(adapter.blocks) == 4
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[0], plain)
    with pytest.raises(ValueError, match="no block 4"), attach(model, adapter, keep=[4]):
        pass
    with pytest.raises(ValueError, match="made for"), attach(build("wan", blocks=3), adapter):
        pass


@pytest.mark.parametrize("make", [conv3d_adapter, local_attention_adapter])
def test_branches_compute_in_the_models_dtype_and_keep_their_own(make):
    model = four_blocks("wan").to(torch.bfloat16)
    adapter = make(spec_for(model), 4, torch.Generator().manual_seed(0))
    call = call_for("wan", model)
    call.kwargs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in call.kwargs.items()}
    with attach(model, adapter):
        out = call(model)
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in adapter.parameters())


def test_branches_of_impossible_sizes_are_refused():
    g = torch.Generator()
    with pytest.raises(ValueError, match="odd kernel size"):
        Conv3D(8, 4, 2, 1.0, g)
    with pytest.raises(ValueError, match="odd sides"):
        LocalAttention(8, 4, (3, 2, 3), 2, g)
    with pytest.raises(ValueError, match="5 channels cannot be shared by 2 heads"):
        LocalAttention(8, 5, (3, 3, 3), 2, g)

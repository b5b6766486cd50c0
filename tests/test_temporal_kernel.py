"""TemporalKernel against its definition: two Conv1d over time with a GELU between, at every place."""

from __future__ import annotations

import pytest
import torch
from tiny_dits import conv_reference
from torch import nn

from det_core.adapter.temporal_kernel import TemporalKernel

SHAPES = [  # (batch, (T, H, W), dim, mid_dim, kernel_size)
    (1, (1, 2, 3), 1, 4, 3),
    (2, (1, 3, 1), 127, 5, 7),
    (2, (2, 3, 2), 127, 8, 3),
    (1, (2, 1, 1), 7, 3, 5),
    (1, (2, 2, 2), 1536, 16, 7),
    (2, (13, 3, 2), 127, 32, 1),
    (1, (13, 2, 5), 127, 17, 5),
    (2, (13, 1, 3), 1536, 24, 3),
    (1, (13, 4, 1), 1, 1, 7),
    (2, (3, 2, 2), 6, 4, 7),  # a kernel that is longer than the video
]
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)]


def make(dim: int, mid_dim: int, kernel_size: int, dtype: torch.dtype = torch.float32) -> TemporalKernel:
    """A kernel with both convolutions at PyTorch's usual scale, so that values are about 1."""
    generator = torch.Generator().manual_seed(dim + kernel_size)
    kernel = TemporalKernel(dim, mid_dim, kernel_size, init_std=(dim * kernel_size) ** -0.5, generator=generator)
    nn.init.normal_(kernel.up.weight, std=(mid_dim * kernel_size) ** -0.5, generator=generator)
    return kernel.to(dtype)


def tokens(batch: int, grid: tuple[int, int, int], dim: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    count = grid[0] * grid[1] * grid[2]
    return torch.randn(batch, count, dim, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=lambda v: str(v))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_two_convolutions_forward_and_all_gradients(shape, dtype, tolerance):
    batch, grid, dim, mid_dim, kernel_size = shape
    kernel = make(dim, mid_dim, kernel_size, dtype)
    x = tokens(batch, grid, dim, dtype)
    direction = tokens(batch, grid, dim, dtype).detach().flip(1)

    out = kernel(x, grid)
    got = torch.autograd.grad((out * direction).sum(), [x, kernel.down.weight, kernel.up.weight])

    # The reference sees the same (rounded) numbers in float64.
    exact, x_exact = make(dim, mid_dim, kernel_size, dtype).double(), x.detach().double().requires_grad_()
    expected = conv_reference(exact, x_exact, grid)
    wanted = torch.autograd.grad((expected * direction.double()).sum(), [x_exact, exact.down.weight, exact.up.weight])

    assert out.dtype == dtype
    for name, ours, theirs in zip(("out", "x", "down", "up"), (out, *got), (expected, *wanted), strict=True):
        assert ours.shape == theirs.shape
        error = (ours.double() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3)
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize(("time", "kernel_size"), [(1, 3), (2, 5), (4, 3), (3, 1)])
def test_gradcheck(time, kernel_size):
    kernel = make(3, 2, kernel_size, torch.float64)
    grid = (time, 2, 1)

    def run(x, down, up):
        return torch.func.functional_call(kernel, {"down.weight": down, "up.weight": up}, (x, grid))

    x = tokens(2, grid, 3, torch.float64)
    assert torch.autograd.gradcheck(run, (x, kernel.down.weight, kernel.up.weight))


def test_new_kernel_adds_exactly_nothing_and_learns_its_up_side_first():
    kernel = TemporalKernel(12, 4, 3)
    x = tokens(2, (3, 2, 2), 12)
    out = kernel(x, (3, 2, 2))
    assert torch.equal(out, torch.zeros_like(out))
    out.sum().backward()
    assert kernel.up.weight.grad.abs().max() > 0
    assert torch.equal(kernel.down.weight.grad, torch.zeros_like(kernel.down.weight))


def test_initial_scale_and_generator():
    drawn = TemporalKernel(200, 100, 3, generator=torch.Generator().manual_seed(3))
    assert abs(drawn.down.weight.std().item() - 1.0) < 0.02
    assert abs(TemporalKernel(200, 100, 3, init_std=0.05).down.weight.std().item() - 0.05) < 0.001

    before = torch.get_rng_state()
    again = TemporalKernel(200, 100, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn.down.weight, again.down.weight)
    assert torch.equal(before, torch.get_rng_state()), "a given generator must leave the global one alone"


def test_expand_completes_hidden():
    kernel, grid = make(10, 6, 5), (4, 2, 3)
    x = tokens(2, grid, 10)
    hidden = kernel.hidden(x, grid)
    assert hidden.shape == (2, 24, 6)
    assert torch.equal(kernel.expand(hidden, grid), kernel(x, grid))


def test_time_steps_and_places_only_see_what_the_kernel_reaches():
    kernel, grid = make(4, 8, 3, torch.float64), (7, 2, 3)
    x = tokens(1, grid, 4, torch.float64).detach()
    moved = x.clone()
    moved[0, 3 * 6 + 4] += 1.0  # time 3, place 4
    changed = (kernel(moved, grid) - kernel(x, grid)).reshape(7, 6, 4).abs().amax(-1) > 1e-12
    assert changed[1:6, 4].all(), "two convolutions of size 3 reach two steps to either side"
    changed[1:6, 4] = False
    assert not changed.any()


@pytest.mark.parametrize("kernel_size", [0, 2, 4, -1])
def test_even_sizes_are_refused(kernel_size):
    with pytest.raises(ValueError, match=f"odd size.*got {kernel_size}"):
        TemporalKernel(8, 4, kernel_size)


def test_float32_weights_follow_the_tokens_dtype_and_stay_trainable():
    kernel, grid = make(64, 16, 3), (5, 2, 2)
    x = tokens(1, grid, 64, torch.bfloat16)
    out = kernel(x, grid)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert kernel.down.weight.grad.dtype == torch.float32 and kernel.down.weight.grad.abs().max() > 0
    expected = conv_reference(kernel, x.detach().float(), grid)
    assert (out.float() - expected).abs().max() / expected.abs().max() < 4e-2


def test_autocast_decides_the_compute_dtype():
    kernel, grid = make(64, 16, 3), (5, 2, 2)
    x = tokens(1, grid, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = kernel(x, grid)
    assert out.dtype == torch.bfloat16
    expected = conv_reference(kernel, x, grid)
    assert (out.float() - expected).abs().max() / expected.abs().max() < 4e-2


@pytest.mark.parametrize("frozen_down", [False, True])
def test_backward_keeps_no_copy_of_the_wide_tokens(frozen_down):
    """Of tensors as wide as the tokens, only the input itself is kept, and not even that once `down` is frozen."""
    kernel, grid = make(128, 8, 3), (6, 4, 4)
    kernel.down.weight.requires_grad_(not frozen_down)
    x = tokens(1, grid, 128)
    kept: list[torch.Tensor] = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kernel(x, grid)
    wide = [tensor for tensor in kept if tensor.numel() >= x.numel()]
    assert all(tensor.data_ptr() == x.data_ptr() for tensor in wide)
    assert bool(wide) != frozen_down


def test_from_weights_keeps_values_and_dtype():
    source = make(6, 4, 5, torch.bfloat16)
    copy = TemporalKernel.from_weights(source.down.weight, source.up.weight)
    assert (copy.dim, copy.mid_dim, copy.kernel_size) == (6, 4, 5)
    assert copy.down.weight.dtype == torch.bfloat16
    assert torch.equal(copy.down.weight, source.down.weight) and torch.equal(copy.up.weight, source.up.weight)

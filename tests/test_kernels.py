"""Device kernels under Triton's interpreter: every operation, forward and backward, against torch and eq. 2."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from det_core.adapter.temporal_kernel import TemporalKernel
from det_core.kernels import shift_torch, temporal_conv
from det_core.kernels.reference import temporal_conv_reference

SHAPES = [  # (batch, (T, H, W), dim, mid_dim, kernel_size)
    (1, (1, 1, 1), 3, 1, 3),
    (2, (1, 3, 1), 127, 5, 7),
    (2, (5, 3, 2), 127, 1, 3),
    (1, (13, 2, 3), 33, 17, 7),
    (2, (4, 9, 11), 16, 32, 5),  # more tokens than one program takes
    (3, (3, 2, 2), 6, 4, 7),  # a kernel longer than the video
    (2, (6, 5, 1), 8, 3, 1),
]
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 6e-3}


@pytest.fixture
def interpreter(monkeypatch):
    """Triton's kernels run on the CPU, through its interpreter."""
    if torch.cuda.is_available():
        pytest.skip("A GPU IS THERE: Triton does not interpret here (see conftest.py)")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delenv("DET_KERNELS", raising=False)
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are NOT tested here")
    from det_core.kernels import shift_triton

    return shift_triton


def make(dim: int, mid_dim: int, kernel_size: int, dtype: torch.dtype) -> TemporalKernel:
    generator = torch.Generator().manual_seed(dim + kernel_size)
    kernel = TemporalKernel(dim, mid_dim, kernel_size, init_std=(dim * kernel_size) ** -0.5, generator=generator)
    nn.init.normal_(kernel.up.weight, std=(mid_dim * kernel_size) ** -0.5, generator=generator)
    return kernel.to(dtype)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def steps_of(kernel_size: int, time: int) -> list[int]:
    reach = min(kernel_size // 2, time - 1)
    return list(range(-reach, reach + 1))


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_operation_equals_torch(interpreter, shape, dtype):
    batch, (time, height, width), _, mid_dim, kernel_size = shape
    rows, count = height * width, time * height * width
    for steps in (steps_of(kernel_size, time), [-s for s in steps_of(kernel_size, time)]):
        wide = normal(batch, count, len(steps) * mid_dim, dtype=dtype)
        narrow, before = (normal(batch, count, mid_dim, dtype=dtype, seed=s) for s in (1, 2))
        assert torch.equal(interpreter.gather_steps(narrow, rows, steps), shift_torch.gather_steps(narrow, rows, steps))
        for name, arguments in (
            ("add_steps", (wide,)),
            ("add_steps_gelu", (wide,)),
            ("gather_steps_slope", (narrow, before)),
        ):
            ours, theirs = (getattr(o, name)(*arguments, rows, steps) for o in (interpreter, shift_torch))
            pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
            for one, other in pairs:
                assert one.dtype == dtype
                assert error(one, other) <= min(TOLERANCES[dtype], 1e-2), name


def everything(kernel: TemporalKernel, x: torch.Tensor, grid) -> list[torch.Tensor]:
    """Output and all gradients."""
    out = kernel(x, grid)
    direction = normal(*out.shape, dtype=out.dtype, seed=5)
    return [out, *torch.autograd.grad((out * direction).sum(), [x, kernel.down.weight, kernel.up.weight])]


def everything_exactly(kernel: TemporalKernel, x: torch.Tensor, grid) -> list[torch.Tensor]:
    """The same of eq. 2 as it reads, in float64 on the same numbers."""
    x, down, up = (t.detach().double().requires_grad_() for t in (x, kernel.down.weight, kernel.up.weight))
    out = temporal_conv_reference(x, down, up, grid)
    direction = normal(*out.shape, dtype=kernel.up.weight.dtype, seed=5).double()
    return [out, *torch.autograd.grad((out * direction).sum(), [x, down, up])]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_all_gradients_equal_two_convolutions(interpreter, monkeypatch, shape, dtype):
    batch, grid, dim, mid_dim, kernel_size = shape
    kernel = make(dim, mid_dim, kernel_size, dtype)
    x = normal(batch, grid[0] * grid[1] * grid[2], dim, dtype=dtype).requires_grad_()
    used = []
    monkeypatch.setattr(interpreter, "_launch_add", _counting(interpreter._launch_add, used))
    fused = everything(kernel, x, grid)
    assert len(used) == 2, "both the forward and the backward sum went through Triton"
    monkeypatch.setenv("DET_KERNELS", "0")
    plain = everything(kernel, x, grid)
    assert len(used) == 2
    for name, ours, torchs, exact in zip(
        ("out", "x", "down", "up"), fused, plain, everything_exactly(kernel, x, grid), strict=True
    ):
        assert error(ours, exact) <= TOLERANCES[dtype], name
        assert error(torchs, exact) <= TOLERANCES[dtype], name


def _counting(function, calls):
    def counted(*args):
        calls.append(1)
        return function(*args)

    return counted


def test_transposed_and_sliced_tokens(interpreter):
    kernel, grid = make(12, 6, 3, torch.float32), (4, 3, 2)
    whole = normal(2, 30, 12)
    for x in (whole[:, 6:], normal(2, 12, 24).transpose(1, 2), normal(24, 2, 12).transpose(0, 1)):
        x = x.detach().requires_grad_()
        for ours, exact in zip(everything(kernel, x, grid), everything_exactly(kernel, x, grid), strict=True):
            assert error(ours, exact) <= 2e-5


@pytest.mark.parametrize("fused", [False, True], ids=["torch", "triton"])
@pytest.mark.parametrize("grad", [False, True])
def test_the_residual_is_added_to_any_part_of_a_tensor(request, fused, grad):
    if fused:
        request.getfixturevalue("interpreter")
    kernel, grid = make(10, 6, 3, torch.float32), (4, 2, 3)
    hidden = kernel.hidden(normal(2, 24, 10), grid).detach()
    residual = kernel.expand(hidden, grid)
    whole = normal(2, 30, 16, seed=3)
    for of in (lambda w: w[:, :24, :10].contiguous(), lambda w: w[:, -24:, :10], lambda w: w[:1, -24:, 3:13]):
        base = of(whole.clone())
        expected = base + residual[: len(base)]
        with torch.set_grad_enabled(grad):
            out = kernel.expand_onto(base, hidden[: len(base)], grid)
        assert torch.allclose(out, expected, atol=1e-5)
        assert (out.data_ptr() == base.data_ptr()) == (not grad), "in place exactly where no gradient is asked for"


def test_gradients_flow_through_both_sides_of_the_sum():
    kernel, grid = make(10, 6, 3, torch.float64), (4, 2, 3)
    for part in (slice(None), slice(-24, None)):
        base = normal(2, 24 if part.start is None else 30, 10, dtype=torch.float64).requires_grad_()
        hidden = normal(2, 24, 6, dtype=torch.float64, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(lambda b, h, p=part: kernel.expand_onto(b[:, p], h, grid), (base, hidden))


def test_a_result_of_another_dtype_keeps_it():
    kernel, grid = make(10, 6, 3, torch.float32), (4, 2, 3)
    hidden = kernel.hidden(normal(1, 24, 10).bfloat16(), grid)
    base = normal(1, 24, 10)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            out = kernel.expand_onto(base.clone(), hidden, grid)
        assert out.dtype == torch.float32
        assert torch.allclose(out, base + kernel.expand(hidden, grid).float(), atol=1e-6)


@pytest.mark.parametrize(
    ("tensor", "environment", "reason"),
    [
        (torch.zeros(1), {}, "device cpu"),
        (torch.zeros(1), {"TRITON_INTERPRET": "1", "DET_KERNELS": "0"}, "DET_KERNELS=0"),
        (torch.zeros(1, dtype=torch.float64), {"TRITON_INTERPRET": "1"}, "dtype torch.float64"),
        (torch.zeros(1), {"TRITON_INTERPRET": "1"}, "Triton is not installed"),
    ],
)
def test_what_triton_cannot_take_goes_to_torch_with_one_debug_line(monkeypatch, caplog, tensor, environment, reason):
    for name in ("TRITON_INTERPRET", "DET_KERNELS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(temporal_conv, "_triton_runs", lambda *_on: False)
    temporal_conv._say_once.cache_clear()
    with caplog.at_level(logging.DEBUG, "det_core.kernels.temporal_conv"):
        assert [temporal_conv._operations(tensor) for _ in range(3)] == [shift_torch] * 3
    (line,) = caplog.records
    assert reason in line.getMessage()


def test_a_triton_that_cannot_build_goes_to_torch_with_one_line(interpreter, monkeypatch, caplog):
    """As in an image with CUDA and without a C compiler: it is imported, and the first launch fails."""
    launches = []

    def launch(narrow, *_rest):
        launches.append((narrow.device.type, narrow.dtype))
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    monkeypatch.setattr(interpreter, "_launch_gather", launch)
    monkeypatch.setattr(interpreter, "_launch_add", launch)
    temporal_conv._triton_runs.cache_clear()
    kernel, grid = make(12, 6, 3, torch.float32), (4, 3, 2)
    x = normal(2, 24, 12).requires_grad_()
    try:
        with caplog.at_level(logging.INFO, "det_core.kernels.temporal_conv"):
            ours = everything(kernel, x, grid), everything(kernel, x, grid)
    finally:
        temporal_conv._triton_runs.cache_clear()
    for found, exact in zip(ours[1], everything_exactly(kernel, x, grid), strict=True):
        assert error(found, exact) <= 2e-5
    assert launches == [("cpu", torch.float32)], "it is tried once"
    (line,) = caplog.records
    said, _, why = line.getMessage().partition(": Triton does not run on cpu in torch.float32: ")
    assert (said, why) == ("the temporal kernels run in plain torch", "Failed to find C compiler.")


def test_a_full_gpu_at_the_first_launch_is_no_word_against_triton(interpreter, monkeypatch):
    launch = interpreter._launch_gather

    def full(*_args):
        monkeypatch.setattr(interpreter, "_launch_gather", launch)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(interpreter, "_launch_gather", full)
    temporal_conv._triton_runs.cache_clear()
    try:
        with pytest.raises(torch.OutOfMemoryError):
            temporal_conv._operations(torch.zeros(1))
        assert temporal_conv._operations(torch.zeros(1)) is interpreter
    finally:
        temporal_conv._triton_runs.cache_clear()


TARGETS = ["cuda:80", "cuda:89", "cuda:90", "cuda:120", "hip:gfx942"]
MOST_REGISTERS = 168  # of a thread; at 4 warps 3 programs fit on a multiprocessor


@pytest.mark.parametrize(
    ("target", "dtype", "steps"),
    [
        pytest.param(*case, marks=[] if case == ("cuda:90", "fp32", 5) else pytest.mark.slow)
        for case in itertools.product(TARGETS, ("fp32", "bf16", "fp16"), (3, 5))
    ],
)
def test_the_kernels_compile_for_every_gpu_and_spill_no_register(target, dtype, steps):
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are NOT compiled here")
    script = Path(__file__).with_name("kernel_resources.py")
    run = subprocess.run([sys.executable, "-W", "ignore", script, target, dtype, str(steps)], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    kernels = json.loads(run.stdout)
    assert len(kernels) == 8
    for kernel in kernels:
        assert kernel["spilled"] == 0, kernel
        assert kernel["registers"] <= MOST_REGISTERS, kernel


def test_kernels_are_launched_on_the_device_of_their_tensors(interpreter, monkeypatch):
    entered = []

    @contextmanager
    def device_of(tensor):
        entered.append(tensor)
        yield
        entered.append("left")

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    narrow, wide = normal(1, 6, 4), normal(1, 6, 12)
    for name, arguments in (
        ("gather_steps", (narrow,)),
        ("gather_steps_slope", (narrow, narrow)),
        ("add_steps", (wide,)),
        ("add_steps_gelu", (wide,)),
    ):
        entered.clear()
        getattr(interpreter, name)(*arguments, 2, [-1, 0, 1])
        assert entered[0] is arguments[0] and entered[1:] == ["left"], name

"""The temporal kernel at the real models' widths: eq. 2 as it reads, ours, and the matrix products of ours alone."""

from __future__ import annotations

import torch
from performance_literal import LiteralKernel
from performance_timing import timed
from torch import nn

from det_core.adapter.temporal_kernel import TemporalKernel

SHAPES = {  # (T, H, W) in tokens, channels, middle width, kernel size
    "CogVideoX-5B, 49x480x720": ((13, 30, 45), 3072, 128, 3),
    "HunyuanVideo, 49x512x768": ((13, 32, 48), 3072, 128, 5),
    "Wan2.1-14B, 81x480x832": ((21, 30, 52), 5120, 128, 3),
    "embedded, 9x64x64": ((9, 8, 8), 128, 32, 3),
}
CPU_PLACES = {"CogVideoX-5B": (15, 45), "HunyuanVideo": (8, 24)}  # a half and an eighth of the picture: widths count


def measure(device: torch.device) -> dict:
    cuda = device.type == "cuda"
    rows = []
    for name, (grid, dim, mid_dim, kernel_size) in SHAPES.items():
        embedded = name.startswith("embedded")
        if not cuda and not embedded:
            if name.split(",")[0] not in CPU_PLACES:
                continue
            grid = (grid[0], *CPU_PLACES[name.split(",")[0]])
        batch = 4 if embedded else 1
        for dtype in (torch.bfloat16,) if cuda else (torch.float32, torch.bfloat16):
            seconds = one(device, grid, dim, mid_dim, kernel_size, batch, dtype, 50 if cuda or embedded else 5)
            case = {"grid": grid, "batch": batch, "dim": dim, "mid_dim": mid_dim, "kernel_size": kernel_size}
            rows.append({"shape": name, **case, "dtype": str(dtype).removeprefix("torch."), "seconds": seconds})
    return {"rows": rows}


def one(device, grid, dim, mid_dim, kernel_size, batch, dtype, repeats) -> dict:
    """Seconds of forward, and of forward and backward, of each way."""
    kernel = TemporalKernel(dim, mid_dim, kernel_size, init_std=(dim * kernel_size) ** -0.5)
    nn.init.normal_(kernel.up.weight, std=(mid_dim * kernel_size) ** -0.5)
    kernel.to(device, dtype)
    literal = LiteralKernel(kernel).to(device, dtype)
    count = grid[0] * grid[1] * grid[2]
    x, base, grad = (torch.randn(batch, count, dim, device=device, dtype=dtype) for _ in range(3))
    products = MatrixProducts(x, base, grad, kernel)

    def forward_literal():
        with torch.no_grad():
            return base + literal.expand(literal.hidden(x, grid), grid)

    def forward_ours():
        with torch.no_grad():
            return kernel.expand_onto(base, kernel.hidden(x, grid), grid)

    def train_literal():
        leaf = x.detach().requires_grad_()
        out = base + literal.expand(literal.hidden(leaf, grid), grid)
        torch.autograd.grad(out, [leaf, literal.down, literal.up], grad)

    def train_ours():
        leaf = x.detach().requires_grad_()
        out = kernel.expand_onto(base, kernel.hidden(leaf, grid), grid)
        torch.autograd.grad(out, [leaf, kernel.down.weight, kernel.up.weight], grad)

    forward = {"literal": forward_literal, "ours": forward_ours, "matrix products": products.forward}
    both = {"literal": train_literal, "ours": train_ours, "matrix products": products.both}
    return {"forward": timed(forward, device, repeats), "forward and backward": timed(both, device, repeats)}


class MatrixProducts:
    """The six matrix products of a kernel's forward and backward, on tensors that are there already."""

    def __init__(self, x, base, grad, kernel: TemporalKernel):
        self.x, self.base, self.grad = (t.flatten(0, 1) for t in (x, base, grad))
        self.down = kernel.down.weight.detach().permute(2, 0, 1).flatten(0, 1)
        self.up = kernel.up.weight.detach().transpose(1, 2).flatten(1)
        self.wide = torch.randn(len(self.x), self.down.shape[0], device=x.device, dtype=x.dtype)

    @torch.no_grad()
    def forward(self):
        self.x @ self.down.T
        self.base.addmm_(self.wide, self.up.T)

    @torch.no_grad()
    def both(self):
        self.x @ self.down.T
        torch.addmm(self.base, self.wide, self.up.T)
        self.grad @ self.up
        self.grad.T @ self.wide
        self.wide.T @ self.x
        self.wide @ self.down

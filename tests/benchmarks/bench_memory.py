"""Peak memory of a training step under each checkpointing, beside its estimate; what an adapter takes when sampling."""

from __future__ import annotations

import torch
from bench_step import adapters_for, denoiser_for
from memory_meter import MemoryMeter

from det_core.adapter.attach import attach
from det_core.models.compute.checkpointing import POLICIES, checkpointed
from det_core.models.compute.memory import training_memory
from det_core.models.compute.precision import fast_bf16


def measure(device: torch.device) -> dict:
    name, denoiser, shape, cond = denoiser_for(device)
    adapter, literal = adapters_for(denoiser)
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    x, t = torch.randn(shape, device=device), torch.tensor([500.0])
    rows = []
    for kind, module in (("ours", adapter), ("literal", literal)):
        for policy in POLICIES:
            module.requires_grad_(True)

            def step(module=module, policy=policy):
                with attach(denoiser.transformer, module), checkpointed(denoiser.transformer, denoiser.spec, policy):
                    denoiser.predict_velocity(x, t, cond).square().mean().backward()
                module.zero_grad(set_to_none=True)

            try:
                peak = peak_of(step, device)
            except torch.OutOfMemoryError:
                peak = None
            estimate = training_memory(
                denoiser.spec, shape, policy=policy, dtype=dtype, text_tokens=cond["encoder_hidden_states"].shape[1]
            )
            rows.append({"adapter": kind, "policy": policy, "peak_bytes": peak, "estimated": estimate.activations})
    weights = sum(p.numel() * p.element_size() for p in denoiser.transformer.parameters())
    kept = [{"blocks": n, "bytes": bytes_of(adapter, n)} for n in range(0, denoiser.spec.num_blocks + 1)]
    return {"model": name, "weights_bytes": weights, "rows": rows, "adapter": kept, "bf16_is_fast": fast_bf16(device)}


def peak_of(step, device: torch.device) -> int:
    """Bytes beyond what was there before."""
    if device.type != "cuda":
        with MemoryMeter() as meter:
            step()
        return meter.peak
    step()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def bytes_of(adapter, blocks: int) -> int:
    chosen = [adapter.kernels[i] for i in range(blocks)]
    return sum(p.numel() * p.element_size() for kernel in chosen for p in kernel.parameters())

"""A training step and a sampling step against the literal way: Conv1d, full checkpointing, and on a CPU float32."""

from __future__ import annotations

import time

import torch
from performance_literal import LiteralAdapter
from performance_timing import spread, sync, timed
from torch import nn

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.compute.precision import fast_bf16
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import TinyModel, build_scheduler
from det_core.tracking.tracks import Tracks
from det_core.training.draws import DrawnFromViews
from det_core.training.loop import TrainConfig, fit


def denoiser_for(device: torch.device) -> tuple[str, DiffusersDenoiser, tuple[int, ...], dict]:
    """CogVideoX-5B with random weights on a GPU, the embedded DiT on a CPU: name, denoiser, latents' shape, prompt."""
    if device.type == "cuda":
        from diffusers import CogVideoXTransformer3DModel

        torch.set_default_dtype(torch.bfloat16)
        with device:
            transformer = CogVideoXTransformer3DModel(
                num_attention_heads=48, num_layers=42, time_embed_dim=512, use_rotary_positional_embeddings=True
            )
        torch.set_default_dtype(torch.float32)
        text = torch.randn(1, 226, 4096, device=device, dtype=torch.bfloat16)
        name, shape = "CogVideoX-5B, 49x480x720, random weights", (1, 16, 13, 60, 90)
    else:
        transformer, text = TinyModel.load().transformer, torch.randn(1, 8, 64)
        name, shape = "embedded DiT, 9x64x64", (1, 16, 9, 8, 8)
    denoiser = DiffusersDenoiser(transformer.eval().requires_grad_(False), build_scheduler())
    return name, denoiser, shape, {"encoder_hidden_states": text}


def adapters_for(denoiser: DiffusersDenoiser) -> tuple[MotionAdapter, LiteralAdapter]:
    adapter = MotionAdapter.create(denoiser.spec, generator=torch.Generator().manual_seed(0)).to(denoiser.device)
    for kernel in adapter.blocks.values():
        nn.init.normal_(kernel.up.weight, std=1e-3)
    return adapter, LiteralAdapter(adapter).to(denoiser.device)


def measure(device: torch.device) -> dict:
    from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

    name, denoiser, shape, cond = denoiser_for(device)
    adapter, literal = adapters_for(denoiser)
    ours, stock = denoiser.transformer.attn_processors, CogVideoXAttnProcessor2_0()

    def as_literal(on: bool) -> None:  # the embedded DiT has an attention of its own, part of what is gained
        denoiser.transformer.set_attn_processor(stock if on else dict(ours))

    return {
        "model": name,
        "training": training(denoiser, adapter, literal, shape, cond, as_literal),
        "sampling": sampling(denoiser, adapter, literal, shape, cond, as_literal),
    }


def training(denoiser, adapter, literal, shape, cond, as_literal, rounds: int = 3, steps: int = 3) -> dict:
    """Seconds of a whole step of `fit`, in turns of a few steps each; the first step of a turn does not count."""
    device, cuda = denoiser.device, denoiser.device.type == "cuda"
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
    tracks = Tracks(torch.rand(50, 49 if cuda else shape[2], 2), torch.ones(50, 49 if cuda else shape[2]))
    low = fast_bf16(device)
    ways = {"literal": (literal, {"bf16": cuda, "checkpoint": "full"})}
    if not cuda:
        ways["ours, float32"] = (adapter, {"bf16": False, "checkpoint": "none"})
    if low:
        for policy in ("none", "attention", "full") if cuda else ("none",):
            ways[f"ours, bfloat16, checkpointing {policy}"] = (adapter, {"bf16": True, "checkpoint": policy})
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way, (module, changes) in ways.items():
            config = TrainConfig.for_spec(denoiser.spec, steps=steps + 1, lr=1e-6, seed=0, **changes)
            marks: list[float] = []

            def mark(_run, _losses, marks=marks):
                sync(device)
                marks.append(time.perf_counter())

            as_literal(way == "literal")
            draw = DrawnFromViews(denoiser, latents, cond, tracks, config)
            result = fit(denoiser, module, draw, config, learns_from="", shape=draw.shape, on_step=mark)
            seconds[way] += [b - a for a, b in zip(marks, marks[1:], strict=False)]
            losses.setdefault(way, result.losses["total"])
    return {way: {**spread(values), "losses": losses[way]} for way, values in seconds.items()}


def sampling(denoiser, adapter, literal, shape, cond, as_literal) -> dict:
    """Seconds of one guided forward without adapter, and with the kept kernels of each kind."""
    x = torch.randn(2, *shape[1:], device=denoiser.device)
    both = {k: v.expand(2, *v.shape[1:]) for k, v in cond.items()}
    t = torch.tensor([500.0, 500.0])

    def call(module, bf16: bool, stock: bool):
        @torch.no_grad()
        def run():
            as_literal(stock)
            denoiser.bf16 = bf16
            if module is None:
                return denoiser.predict_velocity(x, t, both)
            with attach(denoiser.transformer, module, keep=adapter.keep):
                return denoiser.predict_velocity(x, t, both)

        return run

    ways = {
        "no adapter": call(None, False, False),
        "literal": call(literal, False, True),
        "ours": call(adapter, False, False),
    }
    if denoiser.device.type == "cpu" and fast_bf16("cpu"):
        ways["no adapter, bfloat16"] = call(None, True, False)
        ways["ours, bfloat16"] = call(adapter, True, False)
    seconds = timed(ways, denoiser.device, 7)
    denoiser.bf16 = False
    return {"kept_blocks": len(adapter.keep), **seconds}

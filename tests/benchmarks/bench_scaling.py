"""How a training step's time grows with tokens, blocks, middle width and kernel size, beside its arithmetic."""

from __future__ import annotations

import numpy as np
import torch
from performance_timing import timed
from tiny_dits import randomise

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.families import spec_for

BASE = {"side": 16, "blocks": 4, "mid_dim": 64, "kernel_size": 3}
TEXT, FRAMES = 16, 5
SWEEPS = {"side": (8, 12, 16, 20, 24), "blocks": (2, 4, 6), "mid_dim": (32, 64, 128), "kernel_size": (1, 3, 5)}


def measure(device: torch.device) -> dict:
    heads, scale = (24, 3) if device.type == "cuda" else (6, 1)
    rows = []
    for name, values in SWEEPS.items():
        for value in values:
            case = {**BASE, name: value}
            case["side"] *= scale
            rows.append({"sweep": name, **case, **one_step(device, heads, case)})
    return {"dim": heads * 64, "frames": FRAMES, "rows": rows, "rates": rates(rows)}


def one_step(device: torch.device, heads: int, case: dict) -> dict:
    from diffusers import CogVideoXTransformer3DModel

    from det_core.models.families.cogvideox import cogvideox_rotary

    model = CogVideoXTransformer3DModel(
        num_attention_heads=heads, num_layers=case["blocks"], in_channels=4, out_channels=4, text_embed_dim=16,
        max_text_seq_length=TEXT, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    randomise(model, 0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = model.eval().requires_grad_(False).to(device, dtype)
    adapter = MotionAdapter.create(spec_for(model), case["mid_dim"], case["kernel_size"]).to(device)
    side = 2 * case["side"]
    x = torch.randn(1, FRAMES, 4, side, side, device=device, dtype=dtype)
    text = torch.randn(1, TEXT, 16, device=device, dtype=dtype)
    arguments = {"image_rotary_emb": cogvideox_rotary(model, (FRAMES, side, side)), "return_dict": False}
    t = torch.tensor([500], device=device)

    def step():
        model(x, text, t, **arguments)[0].float().square().mean().backward()
        for parameter in adapter.parameters():
            parameter.grad = None

    with attach(model, adapter):
        seconds = timed({"step": step}, device, 5, warm_up=1)["step"]
    tokens = FRAMES * case["side"] ** 2
    return {"tokens": tokens + TEXT, "seconds": seconds, **arithmetic(heads * 64, tokens, case)}


def arithmetic(dim: int, tokens: int, case: dict) -> dict[str, float]:
    """Floating-point operations of one step without checkpointing: frozen linear layers are run twice (forward, and
    the gradient of their input), attention 3.5 times, kernels three times."""
    blocks, joint = case["blocks"], tokens + TEXT
    return {
        "linear_flop": 2.0 * blocks * 24 * joint * dim**2,
        "attention_flop": 3.5 * blocks * 4 * joint**2 * dim,
        "kernel_flop": 3.0 * blocks * 4 * case["kernel_size"] * dim * case["mid_dim"] * tokens,
    }


def rates(rows: list[dict]) -> dict:
    """The two rates (matrix products, attention) that explain all times best, and how far each time is from them."""
    flop = np.array([[row["linear_flop"] + row["kernel_flop"], row["attention_flop"]] for row in rows])
    seconds = np.array([row["seconds"]["median"] for row in rows])
    per_flop, *_ = np.linalg.lstsq(flop / seconds[:, None], np.ones(len(rows)), rcond=None)
    for row, predicted in zip(rows, flop @ per_flop, strict=True):
        row["predicted"] = float(predicted)
    off = np.abs(flop @ per_flop / seconds - 1)
    return {
        "products_gflops": float(1e-9 / per_flop[0]),
        "attention_gflops": float(1e-9 / per_flop[1]),
        "largest_deviation": float(off.max()),
        "largest_deviation_over_tokens": float(off[[row["sweep"] == "side" for row in rows]].max()),
    }

"""The memory of a step on ComfyUI's own HunyuanVideo 1.5, LTX-2 and MiniMax H3: estimated against what it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_models import CASES, H3, LTX23, build, randomly

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from memory_meter import MemoryMeter  # noqa: E402

# In the proportions of the real models, and wide enough for tokens to outweigh what is constant: (class, configuration,
# latents, width of the text).
WIDE = {
    "HunyuanVideo 1.5": (
        "HunyuanVideo15",
        CASES["HunyuanVideo 1.5"].unet | dict(hidden_size=384, num_heads=3, depth=3, mlp_ratio=4.0),
        (1, 32, 5, 16, 20),
        32,
    ),
    "LTX-2.3": (
        "LTXAV",
        LTX23
        | dict(
            num_attention_heads=6,
            attention_head_dim=32,
            cross_attention_dim=192,
            connector_attention_head_dim=32,
            connector_num_attention_heads=6,
        ),
        (1, 128, 5, 16, 20),
        208,
    ),
    "MiniMax H3": (
        "MiniMaxH3",
        H3 | dict(hidden_size=192, num_attention_heads=8, attention_head_dim=32, ffn_hidden_size=512),
        (1, 24, 7, 32, 40),
        40,
    ),
}


@pytest.mark.parametrize("policy", ["none", "attention", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", WIDE)
def test_the_estimate_is_within_15_percent_of_a_step(pack, name, dtype, policy):
    from comfy.ldm.modules.attention import attention_pytorch
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter
    from det_pack.det_core.models.compute.memory import mlp_ratio_of, training_memory
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.trainable import trainable

    kind, unet, shape, text = WIDE[name]
    sizes = {"mid_dim": 24, "kernel_size": 5}
    with torch.inference_mode():
        patcher = build(kind, unet, dtype=dtype)
        spec = model_spec(patcher)
        caption = [[randomly(1, 6, text), {"pooled_output": None}]]
        with trainable(patcher, caption, randomly(*shape), spec, 0) as (denoiser, x0):
            adapter = MotionAdapter.create(denoiser.spec, *sizes.values())
            for kernel in adapter.blocks.values():
                torch.nn.init.normal_(kernel.up.weight, std=0.1)
            # As on a GPU: the attention that ComfyUI takes on a CPU by itself keeps its maps.
            fused = {"optimized_attention_override": lambda own, *args, **kwargs: attention_pytorch(*args, **kwargs)}
            with denoiser.attached(adapter), denoiser.options(**fused), denoiser.checkpointed(policy):
                with torch.enable_grad(), MemoryMeter() as meter:
                    denoiser.predict_x0(x0.clone(), torch.tensor([500.0]), {}).square().mean().backward()
    ratio = mlp_ratio_of(patcher.model.diffusion_model, spec)
    estimate = training_memory(spec, shape, policy=policy, dtype=dtype, mlp_ratio=ratio, text_tokens=6, **sizes)
    assert estimate.activations == pytest.approx(meter.peak, rel=0.15)

"""The nodes at work on a small model of one class of ComfyUI, or what they refuse it with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_weights import randomly
from untouched import digest, overridden

WORKS = "works"
NODES = ("apply", "train", "heads", "lora")


def node(name: str, module: str):
    import importlib

    cls = getattr(importlib.import_module(f"det_pack.nodes.{module}"), name)
    hidden = SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None)
    return type(name, (cls,), {"hidden": hidden})


def sampled(model, case, changed: tuple[int, int, int] | None = None, steps: int = 2) -> torch.Tensor:
    """KSampler's result; `changed` is a cell (frame, row, column) that starts with other noise."""
    import comfy.sample
    from comfy.nested_tensor import NestedTensor

    noise = torch.randn(case.latents().shape, generator=torch.Generator().manual_seed(3))
    if changed is not None:
        noise[:, :, changed[0], changed[1], changed[2]] += 1
    if case.sound is not None:
        noise = NestedTensor([noise, randomly(*case.sound)])
    empty = noise * 0
    text = case.conditioning()
    result = comfy.sample.sample(
        model,
        noise,
        steps,
        1.0,
        "euler",
        "simple",
        text,
        text,
        empty,
        disable_pbar=True,
        seed=0,
        noise_mask=case.noise_mask,
    )
    return result.unbind()[0].clone() if result.is_nested else result.clone()


def an_adapter(spec, up: float):
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter

    generator = torch.Generator().manual_seed(2)
    adapter = MotionAdapter.create(spec, 8, 3, generator=generator).requires_grad_(False)
    for kernel in adapter.blocks.values():
        kernel.down.weight.normal_(std=(kernel.dim * 3) ** -0.5, generator=generator)
        kernel.up.weight.normal_(std=up, generator=generator)
    return adapter


def applied(patcher, case) -> str:
    """Zero adapter: the base's very result. Another one: another result."""
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    spec = model_spec(patcher)
    base = sampled(patcher, case)
    blocks = list(range(spec.num_blocks))
    same = sampled(apply_adapter(patcher, an_adapter(spec, 0.0), blocks, 1.0), case)
    other = sampled(apply_adapter(patcher, an_adapter(spec, 0.5), blocks, 1.0), case)
    assert torch.equal(same, base), "a zero adapter changes the result"
    assert torch.isfinite(other).all() and (other - base).abs().max() > 1e-3, "an adapter does nothing"
    return WORKS


def trained(patcher, case) -> str:
    cls = node("DeTTrainMotionAdapter", "train")
    losses = {}
    for checkpointing in (True, False):
        out = cls.execute(
            patcher, case.source(), case.conditioning(), 2, 1e-2, 0.0, 1, "run", False, checkpointing, 0,
            mid_dim=8, kernel_size=3,
        )  # fmt: skip
        adapter, losses[checkpointing] = out.args[0], out.args[1]["loss"]
        assert all(kernel.up.weight.abs().max() > 0 for kernel in adapter.blocks.values()), "a block did not learn"
    assert losses[True] == pytest.approx(losses[False], rel=1e-4), "checkpointing changes the result"
    return WORKS


def classified(patcher, case):
    cls = node("FYMClassifyHeads", "fym_heads")
    return cls.execute(patcher, case.source(), case.conditioning(), "balanced", 1, 900.0, 0).args[0]


def lora_trained(patcher, case, heads) -> str:
    cls = node("FYMTrainMotionLoRA", "fym_train")
    out = cls.execute(patcher, case.source(), case.conditioning(), heads, 2, 2, 1e-2, 4, 2, 1, "run", False, True, 0)
    for lora in out.args[:2]:
        ups = [v for k, v in lora.items() if "lora_up" in k or "lora_B" in k]
        assert ups and max(v.abs().max() for v in ups) > 0, "a LoRA did not learn"
    return WORKS


def outcome(work) -> tuple[str, object]:
    """("works", result), or the sentence that refused it."""
    try:
        result = work()
        return WORKS, result
    except ValueError as error:
        return str(error), None


def walked(case, folder, monkeypatch) -> dict[str, str]:
    """What each node made of a case."""
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setattr(paths, "state_path", lambda name: folder / f"{name}.state.safetensors")
    with torch.inference_mode():
        patcher = case.model()
        before, found = digest(patcher.model), {}
        found["apply"], _ = outcome(lambda: applied(patcher, case))
        found["train"], _ = outcome(lambda: trained(patcher, case))
        found["heads"], heads = outcome(lambda: classified(patcher, case))
        if heads is not None:
            found["lora"], _ = outcome(lambda: lora_trained(patcher, case, heads))
        assert digest(patcher.model) == before, "the base model was changed"
    assert overridden(patcher.model) == []
    return found

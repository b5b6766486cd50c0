"""Training through GGUF files, as city96's ComfyUI-GGUF loads them: exact gradients, a base that stays as it was."""

from __future__ import annotations

import pytest
import torch
from gguf_files import BLOCKS, gguf_pack, write_gguf
from small_models import Case
from small_weights import build, gradient_through, randomly
from untouched import overridden

# As wide as a block of the K types; what no GGUF file says is the core's own.
WAN = Case(
    "WAN21_T2V",
    dict(image_model="wan2.1", dim=256, num_heads=2, ffn_dim=256, num_layers=2, text_dim=4096, freq_dim=256, in_dim=16)
    | dict(out_dim=16, model_type="t2v"),
    text=4096,
)
LTX = Case(
    "LTXV",
    dict(image_model="ltxv", num_layers=2, num_attention_heads=32, attention_head_dim=8, cross_attention_dim=256)
    | dict(caption_channels=4096),
    lambda: {"attention_mask": randomly(1, 6)},
    channels=128,
    size=(4, 6),
    text=4096,
)
FILES = [
    *(("wan", WAN, form) for form in ("Q8_0", "Q5_1", "Q4_0", "BF16", "F16", *BLOCKS)),
    *(("ltxv", LTX, form) for form in ("Q8_0", "Q4_K")),
]


@pytest.fixture
def loaded(pack, tmp_path, monkeypatch, request):
    """A MODEL from a GGUF file, as the node Unet Loader (GGUF) makes it, and what it is."""
    import folder_paths

    arch, case, form = request.param
    loader = gguf_pack()
    state = build(case.config, case.unet).model.diffusion_model.state_dict()
    write_gguf(tmp_path / "small.gguf", state, arch, form)
    monkeypatch.setattr(folder_paths, "get_full_path", lambda kind, name: str(tmp_path / name))
    with torch.inference_mode():
        patcher = loader.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]().load_unet("small.gguf")[0]
    return patcher, case, form, state


def named(cases: list) -> list[str]:
    return [f"{arch} {form}" for arch, _, form in cases]


@pytest.mark.parametrize("loaded", FILES, indirect=True, ids=named(FILES))
def test_a_layers_gradient_is_that_of_its_dequantised_weight(loaded):
    import gguf
    from det_pack.det_core.adapter.attach import overridden as overriding
    from det_pack.nodes._comfy.gradients.quantised import differentiable_forwards

    patcher, _, form, state = loaded
    dit, kind = patcher.model.diffusion_model, gguf.GGMLQuantizationType[form]
    layers = {n: part for n, part in dit.named_modules() if getattr(part, "in_features", 0) and "blocks." in n}
    stored = {n: part for n, part in layers.items() if part.weight.tensor_type == kind}
    assert len(stored) >= 2 * 8, "the matrices of both blocks are in the file's form"
    with overriding(differentiable_forwards(dit)):
        for name, layer in stored.items():
            found, grad = gradient_through(layer)
            with torch.no_grad():
                acts = (layer(torch.eye(layer.in_features)) - layer(torch.zeros(layer.in_features))).T
            expected = grad.double() @ acts.double()
            assert (found - expected).norm() < 1e-6 * expected.norm()
            raw = torch.Tensor(layer.weight).numpy()
            raw = raw if raw.dtype.kind == "f" else raw.view("uint8")
            whole = torch.from_numpy(gguf.quants.dequantize(raw, kind)).reshape(state[f"{name}.weight"].shape)
            assert (acts - whole).norm() < 1e-3 * whole.norm(), "the pack computes it in half precision"


@pytest.mark.parametrize("loaded", FILES, indirect=True, ids=named(FILES))
def test_all_nodes_work_and_the_base_stays(loaded, tmp_path, monkeypatch):
    """Apply, two trainings, unload, sample, both LoRAs and a LoRA beneath, with the nodes themselves."""
    import comfy.model_management as mm
    import comfy.sd
    import walk as nodes
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes._comfy.loading.base import identity_of

    patcher, case, *_ = loaded
    monkeypatch.setattr(paths, "state_path", lambda run: tmp_path / f"{run}.state.safetensors")
    with torch.inference_mode():
        base = nodes.sampled(patcher, case)
        assert base.std() > 0.1
        assert identity_of(patcher).same(identity_of(case.model())), "known as the model that the file was made of"
        assert nodes.applied(patcher, case) == nodes.WORKS
        assert nodes.trained(patcher, case) == nodes.WORKS, "twice: with and without checkpointing"
        assert torch.equal(nodes.sampled(patcher, case), base)
        mm.unload_all_models()
        assert torch.equal(nodes.sampled(patcher, case), base)
        heads = nodes.classified(patcher, case)
        assert nodes.lora_trained(patcher, case, heads) == nodes.WORKS
        assert torch.equal(nodes.sampled(patcher, case), base)
        with_lora = comfy.sd.load_lora_for_models(patcher, None, some_lora(patcher), 1.0, 0)[0]
        moved = nodes.sampled(with_lora, case)
        assert (moved - base).abs().max() > 1e-3
        assert nodes.trained(with_lora, case) == nodes.WORKS
        assert torch.equal(nodes.sampled(with_lora, case), moved) and torch.equal(nodes.sampled(patcher, case), base)
    assert overridden(patcher.model) == []


def some_lora(patcher) -> dict:
    from det_pack.det_core.lora.lora import LoRA
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sockets.lora_model import lora_model

    generator = torch.Generator().manual_seed(1)
    lora = LoRA(patcher.model.diffusion_model, 4, generator).requires_grad_(False)
    for part in lora.parts.values():
        part.up.normal_(std=0.1, generator=generator)
    return lora_model(lora, model_spec(patcher), steps=1)

"""LoRA: an update of the attention projections' weights, of all heads or some, in files that other programs load."""

import pytest
import torch
from native_dits import NativeCogVideoX, NativeHunyuanVideo, NativeWan
from tiny_dits import FAMILIES, build, call_for, four_blocks

from det_core.lora.file import load_lora, lora_from_tensors, lora_tensors, save_lora
from det_core.lora.lora import LoRA
from det_core.models.families import spec_for, to_diffusers, to_native
from det_core.models.families.projections import head_count, projections

HEADS = 3
CHOSEN = [[0, 2], [], [1], [0, 1, 2]]  # of the first blocks; HunyuanVideo has two of each kind


def filled(model, **options) -> LoRA:
    """A LoRA as if trained: its up matrices are not zero."""
    g = torch.Generator().manual_seed(5)
    lora = LoRA(model, 4, g, **options)
    for part in lora.parts.values():
        part.up.data = torch.randn(part.up.shape, generator=g) * 0.3
    return lora


@torch.no_grad()
def run(model, lora=None, strength=1.0):
    call = call_for(spec_for(model).name, model)
    if lora is None:
        return call(model)
    with lora.attached_to(model, strength):
        return call(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_lora_changes_nothing_and_a_filled_one_is_a_change_of_weights(family):
    model = four_blocks(family)
    plain = run(model)
    assert torch.equal(run(model, LoRA(model, 4, torch.Generator())), plain)
    lora = filled(model, alpha=2.0)
    found = run(model, lora, 0.7)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(run(model), plain), "the model comes back as it was"
    for (block, kind), (down, up) in lora.weights().items():
        linear = model.get_submodule(projections(spec_for(model))[block, kind].path)
        linear.weight.data += 0.7 * up @ down
    torch.testing.assert_close(found, run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_outside_the_chosen_heads_are_exactly_zero(family):
    model = four_blocks(family)
    lora = filled(model, heads=CHOSEN)
    spec = spec_for(model)
    width, weights = spec.attention_dim // HEADS, lora.weights()
    assert {block for block, _ in weights} == {0, 2, 3}
    for (block, kind), (down, up) in weights.items():
        update = up @ down
        inside, outside = (spec.attention_dim, spec.dim) if kind != "o" else (spec.dim, spec.attention_dim)
        assert update.shape == (inside, outside)
        by_head = update.unflatten(1 if kind == "o" else 0, (HEADS, width))
        alive = by_head.abs().amax((0, 2) if kind == "o" else (1, 2)) > 0
        assert alive.tolist() == [head in CHOSEN[block] for head in range(HEADS)]


def test_training_moves_only_the_chosen_heads_even_with_weight_decay():
    model = four_blocks("wan")
    lora = LoRA(model, 2, torch.Generator().manual_seed(0), heads=CHOSEN, kinds="qk")
    optimizer = torch.optim.AdamW(lora.parameters(), lr=0.1, weight_decay=0.5)
    call = call_for("wan", model)
    for _ in range(3):
        with lora.attached_to(model):
            call(model).square().mean().backward()
        optimizer.step()
    assert {kind for _, kind in lora.weights()} == {"q", "k"}
    width = spec_for(model).dim // HEADS
    for (block, _), (_, up) in lora.weights().items():
        alive = up.unflatten(0, (HEADS, width)).abs().amax((1, 2)) > 0
        assert alive.tolist() == [head in CHOSEN[block] for head in range(HEADS)]
    assert all(p.grad is None for p in model.parameters())


def test_loras_of_disjoint_heads_each_keep_their_own_strength():
    model = four_blocks("wan")
    others = [[h for h in range(HEADS) if h not in chosen] for chosen in CHOSEN]
    one, two = filled(model, heads=CHOSEN), filled(model, heads=others)
    with two.attached_to(model, 0.5):
        nested = run(model, one, 2.0)
        assert torch.equal(run(model, one, 0.0), run(model, two, 0.0)), "strength 0 adds nothing on top"
    spec = spec_for(model)
    for lora, strength in ((one, 2.0), (two, 0.5)):
        for (block, kind), (down, up) in lora.weights().items():
            model.get_submodule(projections(spec)[block, kind].path).weight.data += strength * up @ down
    torch.testing.assert_close(nested, run(model), rtol=1e-4, atol=1e-5)


def test_bfloat16_models_keep_their_dtype():
    model = four_blocks("wan").to(torch.bfloat16)
    lora = filled(model, heads=CHOSEN)
    call = call_for("wan", model)
    call.kwargs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in call.kwargs.items()}
    with lora.attached_to(model):
        out = call(model)
    assert out.dtype == torch.bfloat16
    out.float().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in lora.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_native_files_are_what_comfyui_merges_into_its_weights(family, tmp_path):
    """Every key names a native weight; adding up @ down there is the same model as ours with the LoRA attached."""
    model = four_blocks(family)
    lora = filled(model, heads=CHOSEN, alpha=1.0)
    save_lora(tmp_path / "lora.safetensors", lora, spec_for(model), "native")
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "lora.safetensors")
    expected = run(model, lora)
    native = to_native(family, model.state_dict())
    layers = {key.removesuffix(".lora_up.weight") for key in tensors if key.endswith(".lora_up.weight")}
    assert {f"{layer}.lora_{part}.weight" for layer in layers for part in ("up", "down")} == set(tensors)
    for layer in layers:
        native[f"{layer.removeprefix('diffusion_model.')}.weight"] += (
            tensors[f"{layer}.lora_up.weight"] @ tensors[f"{layer}.lora_down.weight"]
        )
    model.load_state_dict(to_diffusers(family, native))
    torch.testing.assert_close(run(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ("cogvideox", "hunyuan_video", "wan"))
def test_diffusers_and_peft_load_the_file_with_every_key(family, tmp_path):
    pytest.importorskip("peft", reason="NO PEFT: install peft to check that it reads our LoRAs")
    from safetensors.torch import load_file

    model = four_blocks(family)
    lora = filled(model, heads=CHOSEN, alpha=1.0)
    expected, plain = run(model, lora), run(model)
    save_lora(tmp_path / "lora.safetensors", lora, spec_for(model), "diffusers")
    tensors = load_file(tmp_path / "lora.safetensors")
    model.load_lora_adapter(tensors, prefix="transformer", adapter_name="motion")
    injected = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(injected) == len(tensors), "100% of the keys are matched"
    torch.testing.assert_close(run(model), expected, rtol=0, atol=1e-4)
    model.set_adapters("motion", 0.0)
    torch.testing.assert_close(run(model), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["native", "diffusers"])
def test_a_file_comes_back_as_the_same_update(family, layout, tmp_path):
    model = four_blocks(family)
    lora = filled(model, heads=CHOSEN, alpha=3.0)
    lora.metadata["caption"] = "a red car"
    save_lora(tmp_path / "lora.safetensors", lora, spec_for(model), layout)
    again = load_lora(tmp_path / "lora.safetensors", spec_for(model))
    assert again.metadata["caption"] == "a red car" and again.metadata["base_model"] == family
    assert not any(p.requires_grad for p in again.parameters())
    for key, (down, up) in lora.weights().items():
        loaded_down, loaded_up = again.weights()[key]
        assert loaded_down.shape == down.shape, "the rank does not grow by saving"
        torch.testing.assert_close(loaded_up @ loaded_down, up @ down)
    assert again.weights().keys() == lora.weights().keys()


def test_an_alpha_of_another_programs_file_is_honoured():
    model = four_blocks("hunyuan_video")
    tensors = lora_tensors(filled(model), spec_for(model), "native")
    for key in [k for k in tensors if k.endswith("lora_down.weight")]:
        tensors[key.replace("lora_down.weight", "alpha")] = torch.tensor(tensors[key].shape[0] / 2)
    halved = lora_from_tensors(tensors, spec_for(model)).weights()
    for key, (down, up) in filled(model).weights().items():
        torch.testing.assert_close(halved[key][1] @ halved[key][0], up @ down / 2)


@pytest.mark.parametrize(
    "family, native",
    [
        ("cogvideox", lambda: NativeCogVideoX(dim=48, heads=HEADS, blocks=4, time_dim=16)),
        ("hunyuan_video", lambda: NativeHunyuanVideo(dim=48, heads=HEADS, doubles=2, singles=2)),
        ("wan", lambda: NativeWan(dim=48, heads=HEADS, blocks=4, ffn=48)),
    ],
)
def test_a_lora_acts_on_the_native_layout_as_on_its_weights(family, native):
    """Attached to a native model, fused layers included, it does what merging its file into the weights does."""
    torch.manual_seed(1)
    model = native().eval().requires_grad_(False)
    lora = filled(four_blocks(family), heads=CHOSEN)
    spec = spec_for(model)
    g = torch.Generator().manual_seed(2)
    temb = (
        torch.randn(1, 6, 48, generator=g) if family == "wan" else torch.randn(1, 16 if family == "cogvideox" else 48)
    )
    inputs = (torch.randn(1, 8, 48, generator=g), torch.randn(1, 5, 48, generator=g), temb)
    with lora.attached_to(model):
        attached = model(*inputs)
    plain = model(*inputs)
    for key, up in lora_tensors(lora, spec, "native").items():
        if key.endswith("lora_up.weight"):
            down = lora_tensors(lora, spec, "native")[key.replace("lora_up", "lora_down")]
            path = key.removeprefix("diffusion_model.").removesuffix(".lora_up.weight")
            model.get_submodule(path).weight.data += up @ down
    torch.testing.assert_close(attached, model(*inputs), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(attached, plain, atol=1e-3)


def test_native_loras_learn_in_the_fused_layers_as_well():
    model = NativeHunyuanVideo(dim=48, heads=HEADS, doubles=2, singles=2)
    model.num_heads = HEADS
    lora = LoRA(model, 2, torch.Generator().manual_seed(0), heads=CHOSEN)
    assert lora.weights().keys() == filled(four_blocks("hunyuan_video"), heads=CHOSEN).weights().keys()


def test_what_does_not_fit_is_refused_in_words(tmp_path):
    wan, other = four_blocks("wan"), build("wan", heads=HEADS, blocks=3)
    lora = filled(wan)
    with pytest.raises(ValueError, match="made for wan with 4 blocks of 48 channels, but the model is wan with 3"):
        with lora.attached_to(other):
            pass
    save_lora(tmp_path / "lora.safetensors", lora, spec_for(wan))
    with pytest.raises(ValueError, match="made for wan with 4 blocks.*has no place"):
        load_lora(tmp_path / "lora.safetensors", spec_for(other))
    with pytest.raises(ValueError, match="does not fit|has no place"):
        load_lora(tmp_path / "lora.safetensors", spec_for(build("wan", heads=2, blocks=4)))
    (tmp_path / "bad.safetensors").write_bytes(b"hello")
    with pytest.raises(ValueError, match="bad.safetensors is damaged"):
        load_lora(tmp_path / "bad.safetensors", spec_for(wan))
    with pytest.raises(ValueError, match="no such file"):
        load_lora(tmp_path / "none.safetensors", spec_for(wan))
    with pytest.raises(ValueError, match="not a LoRA of a video model"):
        lora_from_tensors({"unet.x": torch.zeros(1)}, spec_for(wan))
    for heads, message in (([[0]] * 3, "3 blocks"), ([[3]] * 4, "heads 0 to 2, not 3"), ([[]] * 4, "would be empty")):
        with pytest.raises(ValueError, match=message):
            LoRA(wan, 2, torch.Generator(), heads=heads)
    for rank, kinds in ((0, "qkv"), (2, ""), (2, "qx")):
        with pytest.raises(ValueError, match="rank of at least 1"):
            LoRA(wan, rank, torch.Generator(), kinds=kinds)


def test_a_model_that_does_not_tell_its_heads_is_named():
    model = NativeCogVideoX(dim=48, heads=HEADS, blocks=1, time_dim=8)
    with pytest.raises(ValueError, match="NativeCogVideoX cannot be read head by head"):
        head_count(model, spec_for(model))

"""Adapter files: what is saved comes back, and anything else gets one clear line."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_dits import build, call_for, filled_adapter

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter, metadata_of
from det_core.models.families import spec_for


@pytest.fixture
def model():
    return build("cogvideox", blocks=3)


@pytest.fixture
def adapter(model):
    return filled_adapter(model)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "motion.safetensors"


def one_line(error: pytest.ExceptionInfo, path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def rewrite(path, change) -> None:
    """Save the file at `path` again after `change(tensors, metadata)`."""
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_round_trip_is_exact(adapter, path, dtype):
    adapter.to(dtype)
    adapter.metadata |= {"caption": "a dog, “running”", "config": '{"lr": 1e-5}'}
    adapter.save(path)
    loaded = MotionAdapter.load(path)
    assert loaded.state_dict().keys() == adapter.state_dict().keys()
    for name, tensor in adapter.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype and torch.equal(loaded.state_dict()[name], tensor)
    assert (loaded.base_model, loaded.num_blocks) == ("cogvideox", 3)
    kept = {"caption", "config", "kept_blocks"}
    assert {k: v for k, v in loaded.metadata.items() if k in kept} == adapter.metadata
    loaded.save(path)
    assert MotionAdapter.load(path).metadata == loaded.metadata


def test_file_has_the_documented_names_shapes_and_metadata(adapter, path):
    adapter.save(path)
    with safe_open(path, "pt") as file:
        assert file.get_slice("blocks.0.down.weight").get_shape() == [8, 32, 3]
        assert file.get_slice("blocks.2.up.weight").get_shape() == [32, 8, 3]
        assert len(list(file.keys())) == 6
    structure = {"format_version": "1", "method": "det", "base_model": "cogvideox", "num_blocks": "3", "dim": "32"}
    structure |= {"mid_dim": "8", "kernel_size": "3", "kept_blocks": "0-1"}
    assert metadata_of(path) == structure


def test_loaded_adapter_acts_the_same(model, adapter, path):
    call = call_for("cogvideox", model)
    adapter.save(path)
    with torch.no_grad():
        with attach(model, adapter, keep=adapter.keep):
            expected = call(model)
        loaded = MotionAdapter.load(path)
        with attach(model, loaded, keep=loaded.keep):
            assert torch.equal(call(model), expected)


def test_create_takes_the_base_models_defaults_and_the_generator(model):
    spec = spec_for(model)
    first, again, other = (
        MotionAdapter.create(spec, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert list(first.kernels) == [0, 1, 2]
    assert (first.kernel.dim, first.kernel.mid_dim, first.kernel.kernel_size) == (32, 128, 3)
    assert torch.equal(first.kernels[2].down.weight, again.kernels[2].down.weight)
    assert not torch.equal(first.kernels[2].down.weight, other.kernels[2].down.weight)
    assert not torch.equal(first.kernels[0].down.weight, first.kernels[1].down.weight)
    assert abs(first.kernels[0].down.weight.std().item() - 1) < 0.05
    assert not first.kernels[0].up.weight.any()
    chosen = MotionAdapter.create(spec, 16, 5)
    assert (chosen.kernel.mid_dim, chosen.kernel.kernel_size) == (16, 5)


def test_keep_follows_the_metadata(adapter):
    assert adapter.keep == [0, 1]
    adapter.metadata["kept_blocks"] = "0, 2"
    assert adapter.keep == [0, 2]


def test_moves_like_any_module(adapter):
    assert adapter.to(torch.bfloat16).kernels[1].up.weight.dtype == torch.bfloat16
    assert sum(p.numel() for p in adapter.parameters()) == 3 * 2 * 8 * 32 * 3
    assert 1 in adapter.kernels and 3 not in adapter.kernels
    assert [index for index, _ in adapter.kernels.items()] == [0, 1, 2]


def test_a_failed_save_leaves_the_earlier_file(adapter, path):
    adapter.save(path)
    earlier = path.read_bytes()
    adapter.metadata["broken"] = 3  # safetensors takes text only
    with pytest.raises(TypeError):
        adapter.save(path)
    assert path.read_bytes() == earlier
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.5, 0.999])
def test_truncated_files(adapter, path, share):
    adapter.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (MotionAdapter.load, metadata_of):
        with pytest.raises(ValueError, match="damaged or no .safetensors file") as error:
            read(path)
        one_line(error, path)


@pytest.mark.parametrize("content", [b"not a model at all", pickle.dumps({"a": 1}), struct.pack("<Q", 2**60) + b"{}"])
def test_files_that_are_no_safetensors(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no .safetensors file") as error:
        MotionAdapter.load(path)
    one_line(error, path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        for read in (MotionAdapter.load, MotionAdapter.from_reference):
            with pytest.raises(ValueError, match="there is no such file") as error:
                read(path)
            one_line(error, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(method="fym"), "is not a motion adapter"),
        (lambda t, m: m.pop("format_version"), "is not a motion adapter"),
        (lambda t, m: m.update(format_version="2"), "newer version of this pack"),
        (lambda t, m: m.update(num_blocks="-1"), 'its metadata "num_blocks" is "-1"'),
        (lambda t, m: m.update(num_blocks="99999999999"), "num_blocks"),
        (lambda t, m: m.update(num_blocks="2"), 'no tensor "blocks.2.down.weight"'),
        (lambda t, m: m.pop("dim"), 'its metadata "dim" is ""'),
        (lambda t, m: m.update(kernel_size="4"), "even kernel size"),
        (lambda t, m: m.update(kept_blocks="0-9"), "wrong kept blocks: .*block 9"),
        (lambda t, m: m.pop("base_model"), "names no base model"),
        (
            lambda t, m: m.update(mid_dim="9"),
            r'"blocks.0.down.weight" is F32 \[8, 32, 3\], its metadata says \[9, 32, 3\]',
        ),
        (lambda t, m: t.update({"lora_A.weight": torch.zeros(1)}), 'no tensor "lora_A.weight"'),
        (lambda t, m: t.update({"blocks.0.up.bias": torch.zeros(1)}), 'no tensor "blocks.0.up.bias"'),
        (lambda t, m: t.pop("blocks.1.up.weight"), "block 1 has only one of its two tensors"),
        (lambda t, m: t.update({"blocks.0.up.weight": torch.zeros(32, 8, 5)}), "blocks.0.up.weight"),
        (lambda t, m: t.update({"blocks.0.up.weight": torch.zeros(32, 8, 3, dtype=torch.int8)}), "is I8"),
        (lambda t, m: t.clear(), "has no tensors"),
    ],
    ids=range(17),
)
def test_wrong_content_is_named(adapter, path, change, message):
    adapter.save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message) as error:
        MotionAdapter.load(path)
    one_line(error, path)


def test_plain_lora_is_not_taken_for_an_adapter(path):
    save_file({"lora": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is not a motion adapter"):
        MotionAdapter.load(path)


def test_adapter_of_some_blocks_only(model, adapter, path):
    def drop(tensors, _):
        del tensors["blocks.1.down.weight"], tensors["blocks.1.up.weight"]

    adapter.save(path)
    rewrite(path, drop)
    loaded = MotionAdapter.load(path)
    assert list(loaded.kernels) == [0, 2] and loaded.keep == [0]
    call = call_for("cogvideox", model)
    with torch.no_grad(), attach(model, adapter, keep=[0, 2]):
        expected = call(model)
    with torch.no_grad(), attach(model, loaded):
        assert torch.equal(call(model), expected)
    with pytest.raises(ValueError, match="no block 1 to keep: this adapter has 0, 2"), attach(model, loaded, keep=[1]):
        pass


def test_metadata_survives_as_text_of_any_kind(adapter, path):
    losses = json.dumps({"total": [1.5, float("nan")]})
    adapter.metadata |= {"losses": losses, "empty": "", "lines": "a\nb"}
    adapter.save(path)
    assert {k: metadata_of(path)[k] for k in ("losses", "empty", "lines")} == {
        "losses": losses,
        "empty": "",
        "lines": "a\nb",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_blocks", "9999999"),
        ("num_blocks", "9" * 5000),
        ("kernel_size", "3\u0663"),
        ("format_version", "1" * 5000),
        ("kept_blocks", ",".join(["0-1"] * 2000)),
    ],
)
def test_numbers_of_a_file_are_bounded(adapter, path, key, value):
    adapter.save(path)
    tensors, metadata = load_file(path), metadata_of(path)
    save_file(tensors, path, metadata={**metadata, key: value})
    with pytest.raises(ValueError) as error:
        MotionAdapter.load(path)
    one_line(error, path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite_is_refused(adapter, path, value):
    with torch.no_grad():
        adapter.kernels[0].up.weight[0, 0, 0] = value
    adapter.save(path)
    with pytest.raises(ValueError, match="blocks.0.up.weight.* holds NaN or infinity") as error:
        MotionAdapter.load(path)
    one_line(error, path)

"""Adapters of the paper's released code: imported by what they hold, and nothing in the file is ever executed."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from tiny_dits import build, call_for, filled_adapter

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.families import spec_for


@pytest.fixture
def model():
    return build("cogvideox", blocks=3)


@pytest.fixture
def adapter(model):
    return filled_adapter(model)


def one_line(error: pytest.ExceptionInfo, path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def reference_file(path, adapter, prefix="", **other):
    """The adapter's kernels under the released code's names."""
    names = {"down": "conv1", "up": "conv2"}
    content = {}
    for name, tensor in adapter.state_dict().items():
        _, block, part, _ = name.split(".")
        content[f"{prefix}transformer_blocks.{block}.attn1.processor.temporal_emb.{names[part]}.weight"] = tensor
    torch.save({**content, **other}, path)


@pytest.mark.parametrize("prefix", ["", "module.", "transformer."])
def test_reference_files_are_imported(model, adapter, tmp_path, prefix):
    path = tmp_path / "motion_embedding.pth"
    reference_file(path, adapter.to(torch.bfloat16), prefix, unrelated=torch.zeros(1))
    for spec in (None, spec_for(model)):
        imported = MotionAdapter.from_reference(path, spec)
        assert (imported.base_model, imported.num_blocks, imported.keep) == ("cogvideox", 3, [0, 1])
        for name, tensor in imported.state_dict().items():
            assert tensor.dtype == torch.float32 and torch.equal(tensor, adapter.state_dict()[name].float())
    saved = tmp_path / "imported.safetensors"
    imported.save(saved)
    assert MotionAdapter.load(saved).metadata["imported_from"] == "motion_embedding.pth"
    call = call_for("cogvideox", model)
    with torch.no_grad(), attach(model, adapter.float()):
        expected = call(model)
    with torch.no_grad(), attach(model, imported):
        assert torch.equal(call(model), expected)


def test_reference_single_stream_blocks_come_after_the_double_stream_ones(tmp_path):
    hunyuan = build("hunyuan_video")
    adapter, path = filled_adapter(hunyuan), tmp_path / "motion_embedding.pth"
    content = {}
    for index, kernel in adapter.kernels.items():
        block = f"transformer_blocks.{index}" if index < 2 else f"single_transformer_blocks.{index - 2}"
        for part, conv in (("down", "conv1"), ("up", "conv2")):
            content[f"{block}.attn.processor.temporal_emb.{conv}.weight"] = getattr(kernel, part).weight.detach()
    torch.save({"state_dict": content}, path)
    imported = MotionAdapter.from_reference(path, spec_for(hunyuan))
    assert imported.base_model == "hunyuan_video"
    assert imported.keep == [0, 1], "all single-stream blocks are dropped"
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(imported.state_dict()[name], tensor)


def test_reference_file_of_another_model_is_refused(adapter, tmp_path):
    path = tmp_path / "motion_embedding.pth"
    reference_file(path, adapter)
    with pytest.raises(
        ValueError, match="32 channels, but the model is cogvideox with 3 blocks of 48 channels"
    ) as error:
        MotionAdapter.from_reference(path, spec_for(build("cogvideox", heads=3, blocks=3)))
    one_line(error, path)
    deeper = spec_for(build("cogvideox", blocks=4))
    assert MotionAdapter.from_reference(path, deeper).num_blocks == 4  # a file may hold the first blocks only
    with pytest.raises(ValueError, match="has block 2, but the model is cogvideox with 2 blocks") as error:
        MotionAdapter.from_reference(path, spec_for(build("cogvideox", blocks=2)))
    one_line(error, path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_hostile_pickle_is_not_executed(tmp_path):
    path, proof = tmp_path / "motion_embedding.pth", tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {proof}",)

    torch.save({"transformer_blocks.0.attn1.processor.temporal_emb.conv1.weight": Hostile()}, path)
    with pytest.raises(ValueError, match="was not opened, it is no plain file of tensors") as error:
        MotionAdapter.from_reference(path)
    one_line(error, path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="was not opened") as error:
        MotionAdapter.from_reference(path)
    one_line(error, path)
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x02]"])
def test_broken_reference_files(tmp_path, content):
    path = tmp_path / "motion_embedding.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was not opened") as error:
        MotionAdapter.from_reference(path)
    one_line(error, path)


BLOCK = "transformer_blocks.0.attn1.processor.temporal_emb"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.zeros(1)}, "has no tensors temporal_emb"),
        (torch.zeros(3), "has no tensors temporal_emb"),
        ({f"{BLOCK}.conv1.weight": torch.zeros(4, 8, 3)}, "block 0 has only one of its two convolutions"),
        ({f"{BLOCK}.conv2.weight": torch.zeros(8, 4, 3)}, "no temporal convolutions of odd size"),
        ({f"{BLOCK}.conv1.weight": torch.zeros(4, 8, 2), f"{BLOCK}.conv2.weight": torch.zeros(8, 4, 2)}, "odd size"),
        ({f"{BLOCK}.conv1.weight": torch.zeros(4, 8), f"{BLOCK}.conv2.weight": torch.zeros(8, 4)}, "odd size"),
        (
            {f"{BLOCK}.conv1.weight": torch.zeros(4, 8, 3), f"{BLOCK}.conv2.weight": torch.zeros(8, 5, 3)},
            r"block 0 has a kernel of shape \(8, 5, 3\), not \(8, 4, 3\)",
        ),
    ],
    ids=range(7),
)
def test_other_pth_files_are_refused(tmp_path, content, message):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        MotionAdapter.from_reference(path)
    one_line(error, path)


def test_a_reference_file_of_repeated_numbers_is_refused(tmp_path):
    path = tmp_path / "stride.pth"
    torch.save({f"{BLOCK}.conv{i}.weight": torch.zeros(1).expand(20000, 20000, 3) for i in (1, 2)}, path)
    with pytest.raises(ValueError, match="no plain tensor") as error:
        MotionAdapter.from_reference(path)
    one_line(error, path)

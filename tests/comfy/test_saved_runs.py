"""What lies in models/det_adapters: what the loader offers of it, and that no training takes another's file."""

from __future__ import annotations

import pytest
import torch
from small_models import CASES
from walk import classified, lora_trained, node

WAN = "Wan 2.1 T2V, Wan 2.2 A14B T2V"


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    import folder_paths
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, paths.ADAPTERS, ([str(tmp_path)], {".safetensors"}))
    return tmp_path


def test_states_and_files_that_are_not_whole_are_not_offered(folder):
    from det_pack.nodes._comfy.loading import paths

    for name in (
        "a.safetensors",
        "sub/b.safetensors",
        "a.state.safetensors",
        ".a.1a2b3c4d.safetensors",
        ".a.state.1a2b3c4d.safetensors",
        ".a.safetensors.0a1b-2f-1a2b3c4d/a.safetensors",
        "sub/.b.5e6f7a8b.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert paths.adapter_names() == ["a.safetensors", "sub/b.safetensors"]


def test_runs_of_one_name_have_files_of_their_own(folder):
    """A motion adapter's run "a.spatial" and the spatial stage of a LoRA's run "a"; other clips, other settings."""
    from det_pack.det_core.fym.train import LoRAConfig
    from det_pack.det_core.training.config import TrainConfig
    from det_pack.nodes._comfy.training.runs import saved_run

    files = {
        saved_run("a.spatial", "auto", TrainConfig(), "clip").file,
        saved_run("a", "auto", LoRAConfig(), "clip", "spatial").file,
        saved_run("a", "auto", LoRAConfig(), "clip", "temporal").file,
        saved_run("a.spatial", "auto", TrainConfig(), "another clip").file,
        saved_run("a.spatial", "auto", TrainConfig(lr=1.0), "clip").file,
        saved_run("a.spatial", "auto", TrainConfig(steps=7), "clip").file,
    }
    assert len(files) == 6 and {file.parent for file in files} == {folder}


def test_a_setting_that_came_later_makes_no_earlier_run_another(folder):
    """The names that finished runs have on the disk; whoever adds a setting adds it to `_CAME_LATER`."""
    from det_pack.det_core.fym.train import LoRAConfig
    from det_pack.det_core.training.config import TrainConfig
    from det_pack.nodes._comfy.training.runs import saved_run

    names = [saved_run("a", "auto", config, "clip").file.name for config in (TrainConfig(), LoRAConfig())]
    assert names == ["a.322112a2e159dd8f-500.state.safetensors", "a.8574b561a6de6b57-600.state.safetensors"]
    averaged = saved_run("a", "auto", TrainConfig(average=0.95), "clip").file.name
    assert averaged != names[0]


def test_a_full_disk_gives_the_adapter_all_the_same(folder, monkeypatch, caplog):
    from det_pack.det_core.training.state import TrainState
    from det_pack.nodes._comfy.display.preview import TrainingView

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrainState, "save", full)
    said = []
    monkeypatch.setattr(TrainingView, "say", lambda view, text: said.append(text))
    case = CASES[WAN]
    with torch.inference_mode():
        out = node("DeTTrainMotionAdapter", "train").execute(
            case.model(), case.source(), case.conditioning(), 2, 1e-2, 0.0, 1, "run", False, True, 0,
            mid_dim=8, kernel_size=3,
        )  # fmt: skip
    assert all(kernel.up.weight.abs().max() > 0 for kernel in out.args[0].blocks.values())
    assert "step 2 is not kept" in caplog.text and list(folder.iterdir()) == []
    assert "could not be kept" in said[-1] and "kept as" not in said[-1]


def test_a_look_that_is_not_kept_is_not_said_to_be(folder, monkeypatch):
    """The disk was full for the look's state, and had room for the motion's."""
    from det_pack.det_core.training.state import TrainState
    from det_pack.nodes._comfy.display.preview import TrainingView

    save = TrainState.save

    def full(state, path):
        if ".spatial." in path.name:
            raise OSError(28, "No space left on device")
        save(state, path)

    monkeypatch.setattr(TrainState, "save", full)
    said = []
    monkeypatch.setattr(TrainingView, "say", lambda view, text: said.append(text))
    case = CASES[WAN]
    with torch.inference_mode():
        patcher = case.model()
        lora_trained(patcher, case, classified(patcher, case))
    assert [path.name.split(".")[1] for path in folder.iterdir()] == ["temporal"]
    assert "could not be kept" in said[-1] and "kept as" not in said[-1]

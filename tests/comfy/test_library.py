"""Saved motions are recognised: the card in the file, on the loader, and the library of all of them."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    """An empty models/det_adapters."""
    import folder_paths
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, paths.ADAPTERS, ([str(tmp_path)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path


def adapter(**metadata: str):
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter
    from det_pack.det_core.adapter.temporal_kernel import TemporalKernel

    made = MotionAdapter("wan", 2, {0: TemporalKernel(8, 4), 1: TemporalKernel(8, 4)}).requires_grad_(False)
    made.metadata = {"kept_blocks": "0", **metadata}
    return made


def frames(channel: int) -> torch.Tensor:
    video = torch.zeros(9, 60, 80, 3)
    video[..., channel] = 1
    return video


def save(name: str, made=None, **more):
    from det_pack.nodes.adapter_files import DeTSaveMotionAdapter

    return DeTSaveMotionAdapter.execute(made or adapter(), name, False, **more)


def test_a_saved_file_shows_what_it_is(folder):
    from det_pack.det_core.adapter.motion_adapter import metadata_of
    from det_pack.det_core.media.card import picture_of
    from det_pack.nodes.adapter_files import DeTLoadMotionAdapter

    made = adapter(source='{"name": "twirl.mp4", "frames": 49, "fps": 25}', steps="500")
    save("dance/twirl", made, caption=" a dancer ", preview=frames(1), license="mine")
    metadata = metadata_of(folder / "dance" / "twirl.safetensors")
    assert metadata["modelspec.title"] == "twirl" and metadata["modelspec.license"] == "mine"
    assert metadata["caption"] == metadata["modelspec.description"] == "a dancer"
    assert picture_of(metadata).getpixel((40, 60))[1] > 200
    assert "modelspec.title" not in made.metadata  # the adapter that goes on through the graph is as it was
    loaded = DeTLoadMotionAdapter.execute("dance/twirl.safetensors")
    assert len(loaded.ui.as_dict()["images"]) == 1
    assert "a dancer" in loaded.result[1] and "base64" not in loaded.result[1]


def test_a_file_without_a_card_is_loaded_as_ever(folder):
    from det_pack.nodes.adapter_files import DeTLoadMotionAdapter

    save("plain")
    assert DeTLoadMotionAdapter.execute("plain.safetensors").ui is None


def listed(folder) -> list[str]:
    return sorted(path.stem for path in folder.rglob("*.safetensors"))


def test_a_motion_that_is_there_already_is_not_written_again(folder):
    first, other = (adapter(source=name, steps="500") for name in ("twirl", "leap"))
    save("motion", first, caption="a dancer", preview=frames(1))
    assert save("motion", other).result == ("motion-2.safetensors",), "never over another clip's motion"
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = save("motion", first, caption="a dancer", preview=frames(0))  # as a new prompt, or a restart, runs it
    assert again.result == ("motion.safetensors",)
    assert again.ui["text"] == ["models/det_adapters/motion.safetensors holds this already: nothing was written"]
    assert save("motion", other).result == ("motion-2.safetensors",)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_what_would_say_or_hold_something_else_is_written(folder):
    made = adapter(steps="500")
    save("motion", made, caption="a dancer")
    save("motion", made, caption="a dancer in a park")
    made.metadata["steps"] = "600"
    save("motion", made, caption="a dancer")
    made.kernel.up.weight.data += 1e-3
    save("motion", made, caption="a dancer")
    assert listed(folder) == ["motion", "motion-2", "motion-3", "motion-4"]
    (folder / "motion-4.safetensors").write_bytes(b"nothing")
    assert save("motion", made, caption="a dancer").result == ("motion-5.safetensors",)


def test_words_that_were_taken_away_do_not_stay(folder):
    made = adapter(steps="500")
    save("motion", made, caption="a dancer", license="mine")
    assert save("motion", made, caption="a dancer").result == ("motion-2.safetensors",)
    assert save("motion", made).result == ("motion-3.safetensors",)
    assert save("motion", made, caption="a dancer").result == ("motion-2.safetensors",)


def test_a_loaded_motion_is_the_one_in_its_file(folder):
    from det_pack.nodes.adapter_files import DeTLoadMotionAdapter

    save("motion")
    loaded = DeTLoadMotionAdapter.execute("motion.safetensors").result[0]
    assert save("motion", loaded).result == ("motion.safetensors",)


def test_a_gap_in_the_numbers_hides_nothing_and_is_filled(folder, caplog):
    clips = [adapter(source=name) for name in ("twirl", "leap", "walk")]
    assert [save("motion", clip).result[0] for clip in clips] == [
        f"motion{number}.safetensors" for number in ("", "-2", "-3")
    ]
    (folder / "motion-2.safetensors").unlink()
    with caplog.at_level("INFO"):
        assert save("motion", clips[2]).result == ("motion-3.safetensors",)
        assert save("motion", clips[1]).result == ("motion-2.safetensors",)
    assert [r.getMessage() for r in caplog.records if r.name.endswith("loading.saved")] == [
        f"already there: {folder / 'motion-3.safetensors'}",
        f"saved: {folder / 'motion-2.safetensors'}",
    ]


def test_a_lora_and_a_motion_without_training_are_written_once_too(folder, monkeypatch):
    import folder_paths
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes._comfy.sockets.lora_model import MotionLoRA
    from det_pack.nodes.fym_save import FYMSaveMotionLoRA

    monkeypatch.setitem(folder_paths.folder_names_and_paths, paths.LORAS, ([str(folder)], {".safetensors"}))
    one, other = (MotionLoRA({"a.weight": torch.full((2, 3), value)}, {"steps": "9"}) for value in (1.0, 2.0))
    names = [FYMSaveMotionLoRA.execute(lora, "lora", False).result[0] for lora in (one, other, one, other)]
    assert names == ["lora.safetensors", "lora-2.safetensors"] * 2


def test_the_library_lists_them_as_people_count(folder):
    from det_pack.nodes.adapter_files import DeTMotionLibrary

    for name, caption in (("take 10", "a dog"), ("take 2", "a dancer in a park"), ("Other", "")):
        save(name, caption=caption, preview=frames(0))
    (folder / "broken.safetensors").write_bytes(b"nothing")
    (folder / "take 2.state.safetensors").write_bytes(b"a state")
    made = DeTMotionLibrary.execute("")
    assert [name.split(".")[0] for name in made.result[1].split("\n")] == ["broken", "Other", "take 2", "take 10"]
    assert made.result[0].shape == (1, 4 * 148, 1024, 3)
    assert (made.result[0][0, 148:296, :200, 0] - made.result[0][0, 148:296, :200, 1]).max() > 0.9  # a red picture
    assert DeTMotionLibrary.execute("DANCER park").result[1] == "take 2.safetensors"
    assert DeTMotionLibrary.execute("nothing of this").result[1] == ""


def test_the_files_are_listed_once_however_many_there_are(folder, monkeypatch):
    import folder_paths
    from det_pack.nodes.adapter_files import DeTMotionLibrary

    for number in range(3):
        save(f"m{number}")
    listed: list[str] = []
    names = folder_paths.get_filename_list
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda kind: listed.append(kind) or names(kind))
    assert DeTMotionLibrary.execute("").result[1].splitlines() == [f"m{number}.safetensors" for number in range(3)]
    assert len(listed) == 1
    assert DeTMotionLibrary.fingerprint_inputs("").count(".safetensors") == 3
    assert len(listed) == 2


def test_a_link_that_leads_nowhere_takes_nothing_away(folder, monkeypatch):
    import folder_paths
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes.adapter_files import DeTMotionLibrary
    from det_pack.nodes.stepvideo import DeTLoadStepVideoVAE

    save("whole")
    (folder / "broken.safetensors").symlink_to(folder / "gone" / "x.safetensors")
    assert DeTMotionLibrary.execute("").result[1] == "whole.safetensors"
    assert "whole" in DeTMotionLibrary.fingerprint_inputs("")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae", ([str(folder)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("vae", None)
    assert DeTLoadStepVideoVAE.define_schema().node_id == "DeTLoadStepVideoVAE"
    assert "whole.safetensors" in paths.stepvideo_vaes() and "broken.safetensors" not in paths.stepvideo_vaes()
    folder_paths.filename_list_cache.pop("vae", None)


def test_a_name_in_a_folder_is_known_in_both_spellings(folder, monkeypatch):
    from det_pack.nodes._comfy.loading import paths

    save("dance/twirl")
    assert paths.adapter_path("dance\\twirl.safetensors") == folder / "dance" / "twirl.safetensors"
    monkeypatch.setattr(paths, "adapter_names", lambda: ["dance\\twirl.safetensors"])  # as ComfyUI lists on Windows
    monkeypatch.setattr(paths.folder_paths, "get_full_path_or_raise", lambda kind, name: f"{kind}/{name}")
    assert paths.adapter_path("dance/twirl.safetensors").name == "dance\\twirl.safetensors"
    with pytest.raises(ValueError, match="no adapter 'twirl.safetensors'"):
        paths.adapter_path("twirl.safetensors")


@pytest.mark.parametrize("default", [False, True])
def test_the_folder_of_extra_model_paths_comes_before_ours(pack, tmp_path, monkeypatch, default):
    import folder_paths
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    folder_paths.add_model_folder_path(paths.ADAPTERS, str(tmp_path / "mine"), default)
    paths.register_folders()
    assert paths.folder_of(paths.ADAPTERS) == tmp_path / "mine"
    assert paths.folder_of(paths.MOTIONS) == tmp_path / "models" / paths.MOTIONS


def test_models_that_cannot_be_written_keep_no_node_away(pack, tmp_path, monkeypatch):
    import folder_paths
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    (tmp_path / "models").write_text("no folder, so nothing can be made in it")
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    paths.register_folders()
    assert paths.folder_of(paths.MOTIONS) == tmp_path / "models" / paths.MOTIONS and paths.adapter_names() == []


def test_a_name_that_leaves_its_folder_is_told_which_folder(pack):
    from det_pack.nodes.conditioning_files import DeTSaveConditioning

    assert "det_conditionings" in DeTSaveConditioning.validate_inputs("a/../b")

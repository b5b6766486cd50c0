"""The experts of Wan 2.2 A14B, versions of LTX-2: an adapter says what it is for, and is told when it is elsewhere."""

from __future__ import annotations

import json

import pytest
import torch
from small_models import CASES
from small_weights import build
from walk import an_adapter, node

CASE = CASES["Wan 2.1 T2V, Wan 2.2 A14B T2V"]
HIGH, LOW = "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors"


def expert(file: str, seed: int):
    patcher = build(CASE.config, CASE.unet, seed)
    patcher.cached_patcher_init = (build, (f"/models/{file}", {}))
    return patcher


@pytest.fixture
def said(monkeypatch) -> list[str]:
    from det_pack.nodes._comfy.display import notice

    words = []
    monkeypatch.setattr(notice, "send_text", lambda text, node_id: words.append(text))
    return words


def trained(patcher, folder, monkeypatch, **more):
    from det_pack.nodes._comfy.loading import paths

    monkeypatch.setattr(paths, "state_path", lambda run: folder / f"{run}.state.safetensors")
    cls = node("DeTTrainMotionAdapter", "train")
    with torch.inference_mode():
        given = (patcher, CASE.source(), CASE.conditioning(), 2, 1e-2, 0.0, 1, "run", "start anew", True, 0)
        return cls.execute(*given, mid_dim=8, kernel_size=3, **more).args[0]


def apply(patcher, adapter):
    return node("DeTApplyMotionAdapter", "apply").execute(patcher, adapter, 1.0, -1.0).args[0]


def test_an_adapter_says_what_it_is_for(pack, tmp_path, monkeypatch):
    high = trained(expert(HIGH, 1), tmp_path, monkeypatch, fps=16.0)
    assert (high.metadata["expert"], high.metadata["base_file"]) == ("high", HIGH)
    assert '"noise_span": [0.8, 1.0]' in high.metadata["config"], "auto takes the expert that the file's name says"
    source = json.loads(high.metadata["source"])
    assert (source["frames"], source["fps"], source["size"], high.metadata["vae"]) == (9, 16, [64, 64], "Wan21")
    low = trained(expert(LOW, 2), tmp_path, monkeypatch, noise_range="all")
    assert "expert" not in low.metadata and "fps" not in json.loads(low.metadata["source"])


def test_another_expert_and_other_weights_are_told(pack, tmp_path, monkeypatch, said):
    one, two = expert(HIGH, 1), expert(LOW, 2)
    adapter = trained(one, tmp_path, monkeypatch)
    said.clear()
    apply(one, adapter)
    assert said == []
    apply(two, adapter)
    assert said == [
        f"this adapter learned on the high-noise expert, and this MODEL ({LOW}) is the low-noise one: put it on the "
        "other MODEL, and an adapter trained on this one here"
    ]
    two.cached_patcher_init = None
    apply(two, adapter)
    assert said[1].startswith(f"this adapter learned on other weights of the same shape ({HIGH})") and len(said) == 2
    half = build(CASE.config, CASE.unet, 1, torch.bfloat16)
    apply(half, adapter)
    assert len(said) == 2, "the same weights in 16 bits"


def test_an_adapter_is_not_put_on_another_version_of_ltx(pack):
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    models = {name: CASES[name].model() for name in ("LTX-2", "LTX-2.3", "LTX-2.5")}
    specs = {name: model_spec(model) for name, model in models.items()}
    assert [spec.version for spec in specs.values()] == ["2.0", "2.3", "2.5"]
    adapter = an_adapter(specs["LTX-2.3"], 0.1)
    apply(models["LTX-2.3"], adapter)
    with pytest.raises(ValueError) as refused:
        apply(models["LTX-2.5"], adapter)
    assert str(refused.value) == (
        "this motion adapter was made for ltx2 2.3 with 3 blocks of 32 channels, but the model is ltx2 2.5 with 3 "
        "blocks of 32 channels: load the model it was trained on, or train one for this model"
    )
    del adapter.metadata["base_version"]
    apply(models["LTX-2.5"], adapter)  # a file that does not say is not refused


def test_training_draws_the_noise_of_its_expert(pack, tmp_path, monkeypatch):
    from det_pack.nodes._comfy.training.denoiser import ComfyDenoiser

    seen, own = [], ComfyDenoiser.add_noise
    monkeypatch.setattr(ComfyDenoiser, "add_noise", lambda s, x, n, t: (seen.extend(t.tolist()), own(s, x, n, t))[1])
    for choice, low, high in (("high", 800, 1000), ("low", 0, 920), ("all", 0, 1000)):
        for noise in ("uniform", "as sampled"):
            seen.clear()
            trained(expert("", 1), tmp_path, monkeypatch, noise_range=choice, noise=noise)
            assert len(seen) == 2 and all(low <= t <= high for t in seen)


def test_the_papers_preset_replaces_numbers_and_keeps_the_noise_that_was_chosen(pack):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.settings import chosen_config

    spec = model_spec(expert("", 1))
    numbers = {"steps": 7, "lr": 1.0, "mid_dim": 8, "kernel_size": 3}
    given = {"tracking_weight": 9.0, "seed": 3, "noise": "as sampled", "noise_span": (0.8, 1.0)}
    config = chosen_config("paper", spec, numbers, **given)
    assert (config.seed, config.noise, config.noise_span) == (3, "as sampled", (0.8, 1.0))
    assert config.steps == spec.defaults.steps and config.lr == spec.defaults.lr and config.tracking_weight == 0.1

"""Distilled bases and few steps: the guiders and schedules people sample them with, the loss that leaves built-in
guidance alone, noise drawn where the MODEL's own schedule calls it."""

from __future__ import annotations

import pytest
import torch
from small_models import CASES, randomly
from walk import an_adapter, node

LTX, H3 = CASES["LTX-2.3 with sound"], CASES["MiniMax H3 with sound"]
LTX_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)  # its own eight steps


def adapted(patcher, up: float, **where):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    return apply_adapter(patcher, an_adapter(model_spec(patcher), up), [0, 1, 2], 1.0, **where)


def nested(case):
    from comfy.nested_tensor import NestedTensor

    return NestedTensor([case.latents(), randomly(*case.sound)])


def extras(module: str):
    import importlib

    return importlib.import_module(f"comfy_extras.{module}")


def dual(model, case, video_cfg, audio_cfg):
    text = (case.conditioning(), case.conditioning(seed=9))
    return extras("nodes_lt").LTXVDualCFGGuider.execute(model, *text, video_cfg, audio_cfg).args[0]


def basic(model, case):
    return extras("nodes_custom_sampler").BasicGuider.execute(model, case.conditioning()).args[0]


def stg(model, case):
    return basic(extras("nodes_lt").LTXVSpatioTemporalGuidance.execute(model, 1.0, "1", 0.0, 1.0).args[0], case)


def modality(model, case):
    return basic(extras("nodes_lt").LTXVModalityGuidance.execute(model, 3.0, 0.0, 1.0).args[0], case)


def run(guider, case, sigmas, sampler="euler") -> list[torch.Tensor]:
    import comfy.samplers

    noise = nested(case)
    kind = comfy.samplers.ksampler(sampler)
    out = guider.sample(noise, noise * 0, kind, torch.tensor(sigmas), disable_pbar=True, seed=0)
    return [part.clone() for part in out.unbind()]


# Name -> (case, guider of a MODEL, sigmas, sampler, evaluations a step and rows in each)
WAYS = {
    "LTX-2.3, its eight steps, cfg 1": (LTX, basic, LTX_SIGMAS, "euler_ancestral", [1]),
    "LTX-2.3, its second stage": (LTX, basic, (0.85, 0.725, 0.421875, 0.0), "euler", [1]),
    "LTX-2.3, dual cfg 1 and 1": (LTX, lambda m, c: dual(m, c, 1.0, 1.0), LTX_SIGMAS[4:], "euler", [1]),
    "LTX-2.3, dual cfg 3 and 2": (LTX, lambda m, c: dual(m, c, 3.0, 2.0), LTX_SIGMAS[4:], "euler", [2]),
    "LTX-2.3, spatio-temporal guidance": (LTX, stg, LTX_SIGMAS[4:], "euler", [1, 1]),
    "LTX-2.3, modality guidance": (LTX, modality, LTX_SIGMAS[4:], "euler", [1, 1]),
    "MiniMax H3, four steps": (H3, basic, (1.0, 0.973, 0.923, 0.8, 0.0), "res_multistep", [1]),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_acts_in_every_evaluation(pack, monkeypatch, way):
    from det_pack.nodes._comfy.sampling import adapter_wrapper

    case, guider, sigmas, sampler, rows = WAYS[way]
    seen, own = [], adapter_wrapper.tapped
    monkeypatch.setattr(adapter_wrapper, "tapped", lambda *a, **k: (seen.append(a[3]()), own(*a, **k))[1])
    patcher = case.model()
    with torch.inference_mode():
        base = run(guider(patcher, case), case, sigmas, sampler)
        same = run(guider(adapted(patcher, 0.0), case), case, sigmas, sampler)
        assert all(map(torch.equal, same, base)), "a zero adapter changes the result"
        seen.clear()
        other = run(guider(adapted(patcher, 0.5), case), case, sigmas, sampler)
    assert torch.isfinite(other[0]).all() and (other[0] - base[0]).abs().max() > 1e-3
    assert len(seen) == (len(sigmas) - 1) * len(rows), "so many evaluations, each with the adapter"
    assert len(set(seen)) == 1


def test_percents_are_shares_of_the_schedule(pack, monkeypatch):
    """Six of LTX-2's own eight steps lie before 0.65 and the other two at 0.80 and 0.94, as the node's help says; half
    of a simple schedule's steps lie before 0.5."""
    from comfy.samplers import calculate_sigmas
    from det_pack.nodes._comfy.sampling import adapter_wrapper

    calls, own = [], adapter_wrapper.tapped
    monkeypatch.setattr(adapter_wrapper, "tapped", lambda *a, **k: (calls.append(1), own(*a, **k))[1])
    patcher = LTX.model()
    simple = calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 4).tolist()
    counts = {}
    for sigmas in (LTX_SIGMAS, simple):
        for end in (0.5, 0.51, 0.65, 0.81, 0.95):
            calls.clear()
            with torch.inference_mode():
                run(basic(adapted(patcher, 0.1, end_percent=end), LTX), LTX, sigmas)
            counts[len(sigmas) - 1, end] = len(calls)
    assert [counts[8, end] for end in (0.5, 0.65, 0.81, 0.95)] == [5, 6, 7, 8]
    assert counts[4, 0.51] == 3 and counts[4, 0.95] == 4


@pytest.mark.parametrize("case", [H3, LTX], ids=["MiniMax H3", "LTX-2.3"])
def test_built_in_guidance_is_taken_out_of_the_prediction(pack, case):
    """x0 = (x0(caption) + (g - 1) x0(empty)) / g: the adapter is in the first, not in the second."""
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.trainable import trainable

    patcher, t = case.model(), torch.tensor([600.0])
    text, empty, g = case.conditioning(), case.conditioning(seed=9), 3.5
    found = {}
    with torch.inference_mode():
        spec = model_spec(patcher)
        adapter = an_adapter(spec, 0.5)
        ways = {"caption": (text, None), "empty": (empty, None), "guided": (text, empty), "one": (text, empty)}
        for name, (caption, nothing) in ways.items():
            strength = {"guidance": g if name == "guided" else 1.0, "empty": nothing}
            with trainable(patcher, caption, case.latents(), spec, 0, **strength) as (denoiser, x0):
                x_t = denoiser.add_noise(x0, randomly(*x0.shape, seed=4), t)
                with torch.no_grad():
                    if name == "empty":
                        found[name] = denoiser.predict_x0(x_t, t, {})
                    with denoiser.attached(adapter):
                        found.setdefault(name, denoiser.predict_x0(x_t, t, {}))
    wanted = (found["caption"] + (g - 1) * found["empty"]) / g
    assert torch.equal(found["guided"], wanted) and torch.equal(found["one"], found["caption"])
    assert (wanted - found["caption"]).abs().max() > 1e-2


def test_a_guided_training_learns_through_the_caption_alone(pack, tmp_path, monkeypatch):
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes._comfy.training.denoiser import ComfyDenoiser

    monkeypatch.setattr(paths, "state_path", lambda name: tmp_path / f"{name}.state.safetensors")
    modes, own = [], ComfyDenoiser._predicted
    monkeypatch.setattr(ComfyDenoiser, "_predicted", lambda *a: (modes.append(torch.is_grad_enabled()), own(*a))[1])
    cls, losses = node("DeTTrainMotionAdapter", "train"), {}
    with torch.inference_mode():
        patcher = H3.model()
        for checkpointing in (True, False):
            given = (patcher, H3.source(), H3.conditioning(), 6, 1e-2, 0.0, 1, "run", "start anew", checkpointing, 0)
            more = {"mid_dim": 8, "kernel_size": 3, "empty_prompt": H3.conditioning(seed=9), "noise": "as sampled"}
            out = cls.execute(*given, **more)
            losses[checkpointing] = out.args[1]["loss"]
            assert all(kernel.up.weight.abs().max() > 0 for kernel in out.args[0].blocks.values())
    assert modes == [False, True] * 12
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "limit", "median"), [("LTX-2.3", 877.0, 914.5), ("MiniMax H3 with sound", 888.9, 923.1)]
)
def test_noise_as_sampled_is_that_of_the_models_schedule(pack, name, limit, median):
    """Medians as measured on the core's schedules; with a uniform draw the tracking loss keeps the family's limit."""
    from det_pack.det_core.models.noise import Noise
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.denoiser import time_at

    patcher = CASES[name].model()
    spec, sampling = model_spec(patcher), patcher.get_model_object("model_sampling")

    def at(left: float) -> float:
        return time_at(sampling, spec, left)

    assert at(0.0) == 0 and at(1.0) == 1000 and at(0.5) == pytest.approx(median, abs=0.6)
    assert Noise(as_sampled=True).track_limit(spec.track_limit, at) == pytest.approx(limit, abs=0.6)
    assert Noise().track_limit(spec.track_limit, at) == 550

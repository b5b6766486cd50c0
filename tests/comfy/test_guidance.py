"""Guide Motion on every family: what it leaves bit for bit, what it moves, and that the sampler goes on from there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from twins import LATENTS, comfy_cond, conditioning, load
from untouched import digest, overridden

FAMILIES = ["cogvideox", "hunyuan_video", "wan", "ltx"]


def guided(patcher, source: torch.Tensor, empty: list, **changes):
    from det_pack.nodes.guide import DeTGuideMotion

    settings = {"strength": 1.0, "guide_by": "features", **changes}
    return DeTGuideMotion.execute(patcher, {"samples": source}, empty, **settings).result[0]


def sampled(model, cond: list, shape, *, sampler: str = "euler", steps: int = 5, seen: list | None = None, **more):
    import comfy.sample

    noise = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    callback = None if seen is None else lambda step, x0, x, total: seen.append((step, total))
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, 1.0, sampler, "simple", cond, cond, torch.zeros(shape), disable_pbar=True, seed=0,
            callback=callback, **more,
        ).clone()  # fmt: skip


@pytest.fixture
def loaded(pack, tmp_path, request):
    """(MODEL, CONDITIONING, source latents) of one family."""
    from checkpoints import transformer

    family = request.param
    patcher = load(pack, tmp_path, family, transformer(family))
    channels = 128 if family == "ltx" else 16
    source = torch.randn(1, channels, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    return patcher, comfy_cond(family, conditioning()), source


@pytest.mark.parametrize("loaded", FAMILIES, indirect=True)
def test_it_moves_the_video_and_leaves_the_model(loaded):
    patcher, cond, source = loaded
    before, plain = digest(patcher.model), sampled(patcher, cond, source.shape)
    assert torch.equal(sampled(guided(patcher, source, cond, strength=0.0), cond, source.shape), plain)
    seen: list = []
    made = {loss: sampled(guided(patcher, source, cond, guide_by=loss), cond, source.shape, seen=seen)
            for loss in ("features", "flow", "latents")}  # fmt: skip
    for video in made.values():
        assert video.isfinite().all() and (video - plain).abs().max() > 1e-2
    assert seen == [(step, 5) for step in range(5)] * 3
    whole = guided(patcher, source, cond, gradient_checkpointing=False)
    assert torch.allclose(sampled(whole, cond, source.shape), made["features"], atol=1e-3)
    assert torch.equal(sampled(patcher, cond, source.shape), plain)
    assert digest(patcher.model) == before and overridden(patcher.model) == []


@pytest.mark.parametrize("loaded", ["cogvideox", "wan"], indirect=True)
@pytest.mark.parametrize("masked", [False, True])
def test_without_updates_the_split_sampling_is_the_euler_run(loaded, masked, monkeypatch):
    from det_pack.det_core.guidance.guide import Guide

    patcher, cond, source = loaded
    mask = torch.ones(1, 1, *source.shape[2:])
    mask[:, :, 0] = 0
    more = {"noise_mask": mask} if masked else {}
    plain = sampled(patcher, cond, source.shape, **more)
    monkeypatch.setattr(Guide, "_moved", lambda self, x, updates, model: x)
    split = sampled(guided(patcher, source, cond, end_percent=0.5), cond, source.shape, **more)
    assert torch.allclose(split, plain, atol=2e-4)


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral", "uni_pc"])
def test_any_sampler_goes_on_from_the_guided_steps(loaded, sampler):
    patcher, cond, source = loaded
    plain, made = (sampled(m, cond, source.shape, sampler=sampler) for m in (patcher, guided(patcher, source, cond)))
    assert made.isfinite().all() and (made - plain).abs().max() > 1e-2


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_what_does_not_fit_is_refused_in_a_sentence(loaded):
    patcher, cond, source = loaded
    with pytest.raises(ValueError, match="encode the source at the size"):
        sampled(guided(patcher, source[..., :4], cond), cond, source.shape)
    with pytest.raises(ValueError, match="noisy enough to be guided"):
        sampled(guided(patcher, source, cond), cond, source.shape, denoise=0.3)


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_the_core_is_told_of_the_gradients_memory(loaded):
    from det_pack.nodes._comfy.sampling.guidance import KEY, PREPARE

    patcher, cond, source = loaded
    model = guided(patcher, source, cond)
    reserve, told = model.wrappers[PREPARE][KEY][0], []
    reserve(lambda model, shape, *rest: told.append(shape), model, [1, 16, 21, 60, 104])
    share = model.model.memory_required([2 * told[0][0], *told[0][1:]])
    from det_pack.det_core.guidance.cost import guidance_memory
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    spec = model_spec(patcher)
    needed = guidance_memory(
        spec, torch.Size([1, 16, 21, 60, 104]), spec.guide_block, policy="full",
        dtype=model.model.get_dtype_inference(), mlp_ratio=spec.family.mlp_ratio(model.model.diffusion_model, spec),
    )  # fmt: skip
    assert share >= needed


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_weights_without_a_gradient_are_refused_and_guided_by_latents(loaded):
    patcher, cond, source = loaded
    block = patcher.model.diffusion_model.blocks[0]
    block.forward = torch.no_grad()(block.forward)  # as weights that are unpacked outside of autograd
    for loss in ("features", "flow"):
        with pytest.raises(ValueError, match=f"no gradient can be had .* by {loss} needs one: guide by latents"):
            sampled(guided(patcher, source, cond, guide_by=loss), cond, source.shape)
    assert sampled(guided(patcher, source, cond, guide_by="latents"), cond, source.shape).isfinite().all()


@pytest.mark.parametrize("loaded", ["wan"], indirect=True)
def test_a_batch_that_does_not_fit_is_refused_with_guidances_share(loaded, monkeypatch):
    import comfy.model_management as mm

    patcher, cond, source = loaded
    monkeypatch.setattr(mm, "get_total_memory", lambda device: 2**20)
    with pytest.raises(ValueError, match="a batch of 3 at this size .* guidance's share of it is .* smaller videos"):
        sampled(guided(patcher, source, cond), cond, (3, *source.shape[1:]))


@pytest.mark.parametrize("loaded", ["cogvideox", "wan"], indirect=True)
def test_a_motion_comes_back_from_its_file_with_its_subject(loaded, tmp_path, monkeypatch):
    from det_pack.det_core.tracking.tracks import Tracks
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sockets.checked import tracks_value
    from det_pack.nodes.guide import DeTGuideMotion
    from det_pack.nodes.motion_files import DeTLoadMotion, DeTSaveMotion

    patcher, cond, source = loaded
    monkeypatch.setattr(paths, "folder_of", lambda kind: tmp_path / kind)
    monkeypatch.setattr(paths, "motion_path", lambda name: tmp_path / paths.MOTIONS / name)
    spec = model_spec(patcher)
    source = source.half().float()  # as in the file
    frames, size = spec.frames.frames(source.shape[2]), [n * spec.spatial_compression for n in source.shape[-2:]]
    points = torch.rand(4, frames, 2, generator=torch.Generator().manual_seed(0)) / 2
    tracks = tracks_value(Tracks(points, torch.ones(4, frames, dtype=torch.bool)), size[1], size[0])
    name = DeTSaveMotion.execute(patcher, {"samples": source}, "a motion", False, tracks=tracks).result[0]
    latent = DeTLoadMotion.execute(patcher, name).result[0]
    assert latent["samples"].shape == source.shape
    assert (latent["samples"] - source).abs().max() < 5e-3 and 0 < latent["det_subject"].float().mean() < 1
    near = sampled(guided(patcher, source, cond, tracks=tracks), cond, source.shape)
    again = sampled(DeTGuideMotion.execute(patcher, latent, cond, 1.0, "features").result[0], cond, source.shape)
    everywhere = sampled(guided(patcher, source, cond), cond, source.shape)
    assert (again - near).abs().mean() < 0.2 * (everywhere - near).abs().mean()
    other = SimpleNamespace(name="another", describe=lambda: "another")
    monkeypatch.setattr("det_pack.nodes.motion_files.model_spec", lambda model: other)
    with pytest.raises(ValueError, match=f"made for {spec.name}, but the model is another"):
        DeTLoadMotion.execute(patcher, name)


def text_to_video_and_image_to_video() -> list[str]:
    from small_models import CASES

    return [name for name, case in CASES.items() if case.sound is None]


@pytest.mark.parametrize("name", text_to_video_and_image_to_video())
def test_every_class_is_guided_or_refused_in_a_sentence(pack, name):
    from small_models import CASES
    from walk import sampled as sampled_case

    case = CASES[name]
    with torch.inference_mode(False):
        patcher = case.model()
    source = torch.randn(case.latents().shape, generator=torch.Generator().manual_seed(3))
    try:
        model = guided(patcher, source, case.conditioning())
        with torch.inference_mode():
            video = sampled_case(model, case)
    except ValueError as refused:
        assert len(str(refused)) > 30 and "\n" not in str(refused)
        assert name not in MUST_WORK, str(refused)
        return
    assert video.isfinite().all()
    assert (video - sampled_case(patcher, case)).abs().max() > 1e-3


MUST_WORK = {
    "Wan 2.1 T2V, Wan 2.2 A14B T2V",
    "Wan 2.1 I2V",
    "Wan 2.2 A14B I2V",
    "Wan 2.2 TI2V 5B",
    "Wan 2.2 TI2V 5B, first frame given",
    "Wan Fun Control",
    "LTX-2",
    "LTX-2.3",
}


@pytest.mark.parametrize("guide_by", ["features", "latents"])
@pytest.mark.parametrize("name", ["LTX-2.3 with sound", "MiniMax H3 with sound"])
def test_a_video_with_its_sound_is_refused_in_a_sentence(pack, name, guide_by):
    from small_models import CASES
    from walk import sampled as sampled_case

    case = CASES[name]
    with torch.inference_mode(False):
        patcher = case.model()
    source = torch.randn(case.latents().shape, generator=torch.Generator().manual_seed(3))
    model = guided(patcher, source, case.conditioning(), guide_by=guide_by)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match="sound with its video, which cannot be guided") as told,
    ):
        sampled_case(model, case)
    assert "LTX-2" in str(told.value) and "train a motion adapter" in str(told.value)


@pytest.mark.parametrize("loaded", ["cogvideox"], indirect=True)
def test_a_second_guidance_is_refused_in_its_own_words(loaded):
    patcher, cond, source = loaded
    once = guided(patcher, source, cond)
    with pytest.raises(ValueError, match="guided by a motion already"):
        guided(once, source, cond, guide_by="latents")
    guided(once, source, cond, strength=0.0)


def shown_blocks(model, cond: list, source: torch.Tensor) -> dict[int, float]:
    from det_pack.nodes._comfy.sampling.contribution import measured_shares

    return measured_shares(model, cond, source, 0.5)


@pytest.mark.parametrize("loaded", ["cogvideox"], indirect=True)
def test_blocks_are_shown_of_a_guided_model_as_of_the_bare_one(loaded, caplog):
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter
    from det_pack.nodes._comfy.sampling.guidance import KEY, SAMPLE

    patcher, cond, source = loaded
    made = MotionAdapter.create(model_spec(patcher), 4, 3, generator=torch.Generator().manual_seed(0))
    for kernel in made.requires_grad_(False).blocks.values():
        kernel.up.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    applied = apply_adapter(patcher, made, made.keep, 1.0)
    both = guided(applied, source, cond)
    assert shown_blocks(both, cond, source) == shown_blocks(applied, cond, source)
    assert both.get_wrappers(SAMPLE, KEY), "the MODEL itself is guided as before"
    assert "not what the model can do" not in caplog.text


@pytest.mark.parametrize("loaded", ["cogvideox"], indirect=True)
@pytest.mark.parametrize("left", [False, True])
def test_a_sampling_that_hands_its_noise_on_is_no_bad_result(loaded, left, caplog):
    patcher, cond, source = loaded
    sampled(patcher, cond, source.shape, steps=10, start_step=0, last_step=2, force_full_denoise=not left)
    assert ("not what the model can do" in caplog.text) is not left

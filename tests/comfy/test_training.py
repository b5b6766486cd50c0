"""Training an adapter through a MODEL: the numbers of det_core's own training, and a MODEL that stays as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import save_native, transformer
from twins import LATENTS, comfy_cond, conditioning, ddim_scheduler, diffusers_cond, load, sampled, source
from untouched import digest, overridden

FAMILIES = ["cogvideox", "hunyuan_video", "wan"]
STEPS = 3


def tracks(module, frames: int):
    """A few tracks; `module` is the package (det_core or the pack's) whose class is wanted."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(6, 1, 2, generator=generator) + 0.02 * torch.randn(6, frames, 2, generator=generator).cumsum(1)
    return module.Tracks(points, torch.rand(6, frames, generator=generator) > 0.2)


def trained(
    family: str, patcher, *, checkpointing: bool = True, steps: int = STEPS, on_step=None, resume=None, **settings
):
    """The result of a short training through ComfyUI's model."""
    from det_pack.det_core.tracking import tracks as pack_tracks
    from det_pack.det_core.training.loop import TrainConfig, train_motion_adapter
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.trainable import trainable

    spec = model_spec(patcher)
    settings["checkpoint"] = "full" if checkpointing else "none"
    config = TrainConfig.for_spec(spec, steps=steps, lr=1e-2, seed=3, mid_dim=8, kernel_size=3, warmup=0, **settings)
    z = patcher.model.process_latent_out(source(family))
    with trainable(patcher, comfy_cond(family, conditioning()), z, spec, 0) as (denoiser, x0):
        points = tracks(pack_tracks, (LATENTS[family][0] - 1) * 4 + 1)
        return train_motion_adapter(denoiser, x0, {}, points, config, on_step=on_step, resume=resume)


def test_what_a_finished_run_gives_back_is_the_average(pack, tmp_path):
    from det_pack.nodes._comfy.training.runs import load_weights

    result = trained("wan", load(pack, tmp_path, "wan", transformer("wan")), average=0.5)
    again = copy.deepcopy(result.adapter)
    for parameter in again.parameters():
        parameter.data.zero_()
    load_weights(again, result.state)
    for name, value in again.state_dict().items():
        assert torch.equal(value, result.adapter.state_dict()[name])
        assert not torch.equal(value, result.state.tensors[f"adapter.{name}"])


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_training_on_diffusers(pack, tmp_path, family, checkpointing):
    """Same seed, same draws: losses and weights agree with det_core's training over the diffusers model."""
    from det_core.models.denoiser import DiffusersDenoiser
    from det_core.tracking import tracks as core_tracks
    from det_core.training.loop import TrainConfig, train_motion_adapter

    model = transformer(family)
    result = trained(family, load(pack, tmp_path, family, model), checkpointing=checkpointing)
    denoiser = DiffusersDenoiser(model, ddim_scheduler())
    config = TrainConfig.for_spec(denoiser.spec, steps=STEPS, lr=1e-2, seed=3, mid_dim=8, kernel_size=3, warmup=0)
    points = tracks(core_tracks, (LATENTS[family][0] - 1) * 4 + 1)
    expected = train_motion_adapter(denoiser, source(family), diffusers_cond(family, conditioning()), points, config)
    for name, values in expected.losses.items():
        ours = torch.tensor(result.losses[name])
        assert torch.allclose(ours, torch.tensor(values), rtol=1e-3, atol=1e-4, equal_nan=True), name
    ours, theirs = result.adapter.state_dict(), expected.adapter.state_dict()
    assert max(value.abs().max() for name, value in theirs.items() if "up" in name) > 1e-3
    assert max((ours[name] - theirs[name]).abs().max() for name in theirs) < 2e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_the_stock_loader_in_inference_mode(pack, tmp_path, family):
    """ComfyUI runs nodes in inference mode, so a stock loader's weights are tensors that autograd refuses."""
    import comfy.model_management as mm
    import comfy.sd

    save_native(family, transformer(family), tmp_path / "stock.safetensors")
    with torch.inference_mode():
        if family == "cogvideox":
            from det_pack.nodes._comfy.loading.dit_loader import load_dit

            patcher = load_dit(tmp_path / "stock.safetensors")
        else:
            patcher = comfy.sd.load_diffusion_model(str(tmp_path / "stock.safetensors"))
        assert all(p.is_inference() for p in patcher.model.diffusion_model.parameters())
        noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
        cond = conditioning()
        before, base = digest(patcher.model), sampled(patcher, family, cond, noise, 2)
        result = trained(family, patcher)
        assert len(result.losses["total"]) == STEPS
        assert digest(patcher.model) == before
        assert torch.equal(sampled(patcher, family, cond, noise, 2), base)
    assert mm.in_training is False
    assert overridden(patcher.model) == []


def test_resume_is_bit_exact(pack, tmp_path):
    model = transformer("wan")
    whole = trained("wan", load(pack, tmp_path, "wan", model), steps=6)
    patcher = load(pack, tmp_path, "wan", model)
    half = trained("wan", patcher, steps=3)
    half.state.save(tmp_path / "state.safetensors")
    from det_pack.det_core.training.state import TrainState

    rest = trained("wan", patcher, steps=6, resume=TrainState.load(tmp_path / "state.safetensors"))
    assert torch.equal(torch.tensor(rest.losses["total"]), torch.tensor(whole.losses["total"]))
    assert all(
        torch.equal(value, whole.adapter.state_dict()[name]) for name, value in rest.adapter.state_dict().items()
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", ["in an op", "between steps"])
def test_cancel_leaves_nothing_behind(pack, tmp_path, family, where):
    import comfy.model_management as mm

    patcher = load(pack, tmp_path, family, transformer(family))
    noise = torch.randn(1, 16, *LATENTS[family], generator=torch.Generator().manual_seed(3))
    cond = conditioning()
    before, base = digest(patcher.model), sampled(patcher, family, cond, noise, 2)
    runs = []

    def cancel(run, losses):
        runs.append(run)
        if run.step == 2:
            if where == "between steps":
                raise mm.InterruptProcessingException()
            mm.interrupt_current_processing()  # the next op raises, in the middle of a forward

    with pytest.raises(mm.InterruptProcessingException):
        trained(family, patcher, steps=4, on_step=cancel)
    assert runs[-1].step == 2 and runs[-1].result().state.step == 2
    assert mm.in_training is False and not mm.processing_interrupted()
    assert overridden(patcher.model) == []
    assert digest(patcher.model) == before
    assert torch.equal(sampled(patcher, family, cond, noise, 2), base)
    rest = trained(family, patcher, steps=4, resume=runs[-1].state())
    whole = trained(family, patcher, steps=4)
    assert rest.losses["total"] == whole.losses["total"]
    assert all(torch.equal(v, whole.adapter.state_dict()[k]) for k, v in rest.adapter.state_dict().items())


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_trains_through_fp8(pack, tmp_path, dtype):
    from det_pack.nodes._comfy.loading.dit_loader import load_dit

    save_native("wan", transformer("wan"), tmp_path / "wan.safetensors")
    exact = trained("wan", load_dit(tmp_path / "wan.safetensors"))
    coarse = trained("wan", load_dit(tmp_path / "wan.safetensors", dtype))
    ours, theirs = (torch.tensor(r.losses["total"]) for r in (coarse, exact))
    assert torch.isfinite(ours).all() and ((ours - theirs).abs() / theirs < 0.5).all()


def test_samples_between_steps_do_not_disturb_training(pack, tmp_path):
    from det_pack.nodes._comfy.training.sampler import Sampler

    class Vae:
        def decode(self, latents):
            return latents[:, :3].movedim(1, -1).sigmoid().repeat_interleave(8, 2).repeat_interleave(8, 3)

    family = "wan"
    plain = trained(family, load(pack, tmp_path, family, transformer(family)), steps=4)
    patcher = load(pack, tmp_path, family, transformer(family))
    rows = []

    def look(run, losses):
        if run.step == 2:
            sampler = Sampler(
                look.denoiser,
                Vae(),
                comfy_cond(family, conditioning()),
                comfy_cond(family, conditioning(seed=6)),
                source(family),
                0,
            )
            rows.extend([*sampler.before(), ("step 2", sampler.frames(run.adapter))])

    import det_pack.nodes._comfy.training.trainable as training

    original = training.ComfyDenoiser

    def remember(*args, **more):
        look.denoiser = original(*args, **more)
        return look.denoiser

    training.ComfyDenoiser = remember
    try:
        watched = trained(family, patcher, steps=4, on_step=look)
    finally:
        training.ComfyDenoiser = original
    videos = dict(rows)
    assert list(videos) == ["source", "before", "step 2"]
    assert len({video.shape for video in videos.values()}) == 1
    assert not torch.equal(videos["before"], videos["step 2"]) and not torch.equal(videos["source"], videos["before"])
    assert watched.losses["total"] == plain.losses["total"]
    assert overridden(patcher.model) == []


def test_memory_is_asked_before_the_first_step(pack, tmp_path):
    import comfy.model_management as mm
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.memory_check import check_fits

    patcher = load(pack, tmp_path, "wan", transformer("wan"))
    spec = model_spec(patcher)
    check_fits(2**20, patcher, spec, True)
    too_much = mm.get_total_memory(patcher.load_device)
    with pytest.raises(ValueError, match="switch gradient checkpointing on.*Nothing was trained"):
        check_fits(too_much, patcher, spec, False)
    with pytest.raises(ValueError, match="use fewer or smaller frames.*Nothing was trained"):
        check_fits(too_much, patcher, spec, True)


def test_inputs_that_do_not_fit_are_refused(pack, tmp_path):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sockets.checked import check_track_length, tracks_of, video_latents

    spec = model_spec(load(pack, tmp_path, "cogvideox", transformer("cogvideox")))
    good = torch.zeros(1, 16, 3, 8, 8)
    assert video_latents({"samples": good}, 16, spec) is good
    for shape, message in {
        (1, 16, 8, 8): "are pictures .* not a video",
        (1, 4, 3, 8, 8): "have 4 channels, cogvideox needs 16",
        (2, 16, 3, 8, 8): "hold 2 videos",
        (1, 16, 1, 8, 8): "have one frame",
        (1, 16, 3, 7, 8): "do not divide into cogvideox's patches",
    }.items():
        with pytest.raises(ValueError, match=message):
            video_latents({"samples": torch.zeros(shape)}, 16, spec)
    value = {"track_path": torch.rand(9, 4, 2) * 64, "track_visibility": torch.ones(9, 4, dtype=torch.bool)}
    check_track_length(tracks_of(value, 64, 64), 3, spec)
    with pytest.raises(ValueError, match="TRACKS have 9 frames, but 4 latent frames of cogvideox come from 13"):
        check_track_length(tracks_of(value, 64, 64), 4, spec)
    with pytest.raises(ValueError, match="outside 16x16 pixels"):
        tracks_of(value, 16, 16)
    with pytest.raises(ValueError, match="no point of TRACKS is visible"):
        check_track_length(
            tracks_of({**value, "track_visibility": torch.zeros(9, 4, dtype=torch.bool)}, 64, 64), 3, spec
        )

"""A stopped training goes on bit-exactly, from any step; another one is refused."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from small_training import equal, small, stopped_at

from det_core.training.loop import TrainConfig, check_resumable, train_motion_adapter
from det_core.training.state import TrainState


@pytest.mark.parametrize("stop_at", [1, 3, 5])
@pytest.mark.parametrize("decay", [False, True])
def test_resuming_from_any_step_is_bit_exact(denoiser, job, stop_at, decay, tmp_path):
    config = small(decay=decay, warmup=2)
    whole = train_motion_adapter(denoiser, *job, config)

    class Stop(Exception):
        pass

    def stop(run, _losses):
        if run.step == stop_at:
            run.state().save(tmp_path / "state.safetensors")
            raise Stop

    with pytest.raises(Stop):
        train_motion_adapter(denoiser, *job, config, on_step=stop)
    state = TrainState.load(tmp_path / "state.safetensors")
    assert state.step == stop_at
    resumed = train_motion_adapter(denoiser, *job, config, resume=state)
    assert equal(whole.adapter, resumed.adapter)
    assert [repr(v) for v in resumed.losses["total"]] == [repr(v) for v in whole.losses["total"]]
    assert all(torch.equal(resumed.state.tensors[k], v) for k, v in whole.state.tensors.items())


def test_a_run_without_decay_may_be_continued_for_longer(denoiser, job):
    short = train_motion_adapter(denoiser, *job, small(steps=3))
    longer = train_motion_adapter(denoiser, *job, small(steps=6), resume=short.state)
    assert equal(longer.adapter, train_motion_adapter(denoiser, *job, small(steps=6)).adapter)


def test_resuming_with_other_settings_names_them(denoiser, job):
    state = train_motion_adapter(denoiser, *job, small(steps=2)).state
    with pytest.raises(ValueError, match=r"lr 0\.01 -> 0\.02"):
        train_motion_adapter(denoiser, *job, small(steps=4, lr=2e-2), resume=state)
    with pytest.raises(ValueError, match=r"started for 2 steps, over which the learning rate falls.*\(not 4\)"):
        decaying = train_motion_adapter(denoiser, *job, small(steps=2, decay=True)).state
        train_motion_adapter(denoiser, *job, small(steps=4, decay=True), resume=decaying)


@pytest.mark.parametrize(("asked", "allowed"), [(499, False), (500, True), (501, False)])
def test_a_falling_learning_rate_is_resumed_with_its_own_number_of_steps(denoiser, job, asked, allowed):
    state = train_motion_adapter(denoiser, *job, small(steps=1, decay=True)).state
    state = replace(state, config={**state.config, "steps": int("500")})
    with nullcontext() if allowed else pytest.raises(ValueError, match=rf"started for 500 steps.*\(not {asked}\)"):
        check_resumable(state, small(steps=asked, decay=True))


def test_the_same_source_is_known_by_its_fingerprint_alone(denoiser, job):
    state = train_motion_adapter(denoiser, *job, small(steps=1)).state
    check_resumable(state, small(), "".join(list(state.learns_from)))
    for other in ("0" * 16, "f" * 16):
        with pytest.raises(ValueError, match="another video, caption, tracks"):
            check_resumable(state, small(), other)


def test_a_damaged_state_file_is_refused(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(ValueError, match="^cannot resume: .*state.safetensors is damaged or no .safetensors file"):
        TrainState.load(tmp_path / "state.safetensors")


def test_resuming_with_another_source_is_refused(denoiser, job):
    latents, cond, tracks = job
    state = train_motion_adapter(denoiser, latents, cond, tracks, small(steps=2)).state
    with pytest.raises(ValueError, match="another video, caption, tracks"):
        train_motion_adapter(denoiser, latents + 1, cond, tracks, small(), resume=state)


def test_a_fixed_down_projection_stays_as_drawn_and_resumes(denoiser, job):
    config = small(train_down=False)
    whole = train_motion_adapter(denoiser, *job, config)
    drawn = train_motion_adapter(denoiser, *job, small(steps=1, lr=0.0)).adapter
    for kernel, untrained in zip(whole.adapter.blocks.values(), drawn.blocks.values(), strict=True):
        assert torch.equal(kernel.down.weight, untrained.down.weight)
        assert kernel.down.weight.grad is None and kernel.up.weight.abs().max() > 0
    resumed = train_motion_adapter(denoiser, *job, config, resume=stopped_at(denoiser, job, config, 3))
    assert equal(whole.adapter, resumed.adapter)


def test_training_on_windows_resumes_bit_exactly_and_differs_from_the_whole_clip(denoiser, job):
    config = small(frame_window=3)
    windows = train_motion_adapter(denoiser, *job, config)
    assert not equal(windows.adapter, train_motion_adapter(denoiser, *job, small()).adapter)
    resumed = train_motion_adapter(denoiser, *job, config, resume=stopped_at(denoiser, job, config, 2))
    assert equal(windows.adapter, resumed.adapter)


def test_a_state_from_before_a_setting_existed_resumes(denoiser, job):
    state = stopped_at(denoiser, job, small(), 2)
    for name in ("scale", "frame_window", "train_down"):
        del state.config[name]
    resumed = train_motion_adapter(denoiser, *job, small(), resume=state)
    assert equal(resumed.adapter, train_motion_adapter(denoiser, *job, small()).adapter)
    with pytest.raises(ValueError, match="train_down True -> False"):
        train_motion_adapter(denoiser, *job, small(train_down=False), resume=state)


def test_checkpointing_may_change_on_resume(denoiser, job):
    state = stopped_at(denoiser, job, small(checkpoint="full"), 2)
    resumed = train_motion_adapter(denoiser, *job, small(checkpoint="none"), resume=state)
    assert equal(resumed.adapter, train_motion_adapter(denoiser, *job, small()).adapter)
    with pytest.raises(ValueError, match='checkpoint is one of auto, none, attention, full; got "some"'):
        TrainConfig(checkpoint="some")


def test_a_run_stopped_in_the_middle_of_a_step_resumes_bit_exactly(denoiser, job):
    """The step that failed has already drawn its noise: the state must not have."""
    runs, calls = [], []
    predict = denoiser.predict_x0

    def failing(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return predict(*args)

    denoiser.predict_x0 = failing
    with pytest.raises(KeyboardInterrupt):
        train_motion_adapter(denoiser, *job, small(), on_step=lambda run, _losses: runs.append(run))
    denoiser.predict_x0 = predict
    state = runs[-1].state()
    assert state.step == 3
    whole, resumed = (train_motion_adapter(denoiser, *job, small(), resume=s) for s in (None, state))
    assert equal(whole.adapter, resumed.adapter)
    assert all(torch.equal(resumed.state.tensors[k], v) for k, v in whole.state.tensors.items())

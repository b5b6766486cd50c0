"""The running average of the weights: what is used instead of the last step's, and it is resumed as exactly."""

from dataclasses import replace

import pytest
import torch
from small_training import equal, small, weights

from det_core.models.compute.memory import training_memory
from det_core.training.loop import train_motion_adapter
from det_core.training.saved import Saving
from det_core.training.state import TrainState


def test_the_average_of_all_steps_is_what_is_learned(denoiser, job):
    seen = []
    result = train_motion_adapter(
        denoiser, *job, small(average=0.75), on_step=lambda run, _losses: seen.append(weights(run.adapter))
    )
    expected = seen[0]
    for step in seen[1:]:
        expected = [0.75 * old + 0.25 * new for old, new in zip(expected, step, strict=True)]
    for found, wanted, last in zip(weights(result.adapter), expected, seen[-1], strict=True):
        torch.testing.assert_close(found, wanted)
        assert not torch.equal(found, last)
    assert equal(train_motion_adapter(denoiser, *job, small()).adapter, _adapter_of(seen[-1], result.adapter))


def _adapter_of(values, like):
    with torch.no_grad():
        for parameter, value in zip(like.parameters(), values, strict=True):
            parameter.copy_(value)
    return like


@pytest.mark.parametrize("stop_at", [1, 4])
def test_it_is_resumed_bit_exactly_and_a_stop_keeps_it(denoiser, job, stop_at, tmp_path):
    config, kept = small(average=0.75), []
    whole = train_motion_adapter(denoiser, *job, config)

    class Stop(Exception):
        pass

    def stop(run, _losses):
        if run.step == stop_at:
            raise Stop

    path = tmp_path / "run.state.safetensors"
    beside = lambda adapter, _losses, _config: kept.append(weights(adapter))  # noqa: E731
    with pytest.raises(Stop), Saving(path, 100, on_step=stop, beside=beside) as saving:
        train_motion_adapter(denoiser, *job, config, on_step=saving)
    state = TrainState.load(path)
    assert all(torch.equal(a, b) for a, b in zip(kept[-1], state.learned.values(), strict=True))
    resumed = train_motion_adapter(denoiser, *job, config, resume=state)
    assert equal(whole.adapter, resumed.adapter)
    assert all(torch.equal(resumed.state.tensors[k], v) for k, v in whole.state.tensors.items())


def test_a_run_without_one_keeps_nothing_of_it(denoiser, job):
    result = train_motion_adapter(denoiser, *job, small(steps=2))
    assert not result.state.average and not any(name.startswith("average.") for name in result.state.tensors)


def test_what_cannot_be_is_refused(denoiser, job):
    with pytest.raises(ValueError, match=r"keeps a share of 0 \(none\) to below 1, got 1"):
        small(average=1.0)
    state = train_motion_adapter(denoiser, *job, small(steps=2, average=0.5)).state
    with pytest.raises(ValueError, match=r"average 0\.5 -> 0\.9"):
        train_motion_adapter(denoiser, *job, small(steps=4, average=0.9), resume=state)
    name = next(name for name in state.tensors if name.startswith("average."))
    damaged = replace(state, tensors={**state.tensors, name: torch.zeros(3)})
    with pytest.raises(ValueError, match="another base model or another kernel size"):
        train_motion_adapter(denoiser, *job, small(steps=4, average=0.5), resume=damaged)


def test_its_memory_is_counted(denoiser):
    def needed(**changes):
        return training_memory(denoiser.spec, (3, 4, 6), policy="full", dtype=torch.float32, mid_dim=16, **changes)

    assert needed(average=0.9).adapter == pytest.approx(needed().adapter * 20 / 16)

"""A run on the disk: kept every so often and whatever stops it; a damaged state is refused."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_training import equal, small

from det_core.cli.checks import check_earlier_run
from det_core.files import read_metadata, write_tensors
from det_core.files.writing import _HERE
from det_core.training.config import TrainConfig, how_trained
from det_core.training.loop import train_motion_adapter
from det_core.training.run import NonFiniteLoss, StepNumbers
from det_core.training.saved import Saving, earlier_state
from det_core.training.state import TrainState, state_path, states_of

# ---------------------------------------------------------------------------------------------- kept on the disk


def test_a_run_is_kept_every_so_often_and_at_its_end(denoiser, job, tmp_path):
    path, found = tmp_path / "run.state.safetensors", []
    look = lambda run, _losses: found.append(TrainState.load(path).step if path.exists() else 0)  # noqa: E731
    with Saving(path, 2, on_step=look) as saving:
        train_motion_adapter(denoiser, *job, small(steps=5), on_step=saving)
    assert found == [0, 2, 2, 4, 4]
    assert TrainState.load(path).step == saving.kept == 5


def test_a_full_disk_is_a_warning_and_the_adapter_comes_back(denoiser, job, tmp_path, monkeypatch, caplog):
    def full(*_args):
        raise OSError(28, "cannot write: No space left on device")

    monkeypatch.setattr(TrainState, "save", full)
    with Saving(tmp_path / "run.state.safetensors", 2) as saving:
        result = train_motion_adapter(denoiser, *job, small(steps=5), on_step=saving)
    assert saving.kept is None and [r.getMessage()[:18] for r in caplog.records] == [
        f"step {step} is not kept" for step in (2, 4, 5)
    ]
    assert equal(result.adapter, train_motion_adapter(denoiser, *job, small(steps=5)).adapter)


def test_what_stops_a_run_leaves_its_last_step_and_goes_its_way(denoiser, job, tmp_path):
    path = tmp_path / "run.state.safetensors"

    def stop(run, _losses):
        if run.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Saving(path, 100, on_step=stop) as saving:
        train_motion_adapter(denoiser, *job, small(), on_step=saving)
    assert TrainState.load(path).step == 3
    resumed = train_motion_adapter(denoiser, *job, small(), resume=TrainState.load(path))
    assert equal(resumed.adapter, train_motion_adapter(denoiser, *job, small()).adapter)


@pytest.mark.usefixtures("lagging")
@pytest.mark.parametrize("stopped", range(2, 7))
def test_a_stop_while_numbers_are_awaited_leaves_a_state_that_goes_on(denoiser, job, tmp_path, monkeypatch, stopped):
    """Ctrl-C, where a GPU spends its time: numbers of a step whose optimiser has not run are on their way, too."""
    path, whole = tmp_path / "run.state.safetensors", train_motion_adapter(denoiser, *job, small())
    reads, own = [], StepNumbers.read

    def read(numbers):
        reads.append(numbers)
        if len(reads) == stopped:
            raise KeyboardInterrupt
        return own(numbers)

    monkeypatch.setattr(StepNumbers, "read", read)
    with pytest.raises(KeyboardInterrupt), Saving(path, 3) as saving:
        train_motion_adapter(denoiser, *job, small(), on_step=saving)
    state = TrainState.load(path)
    assert state.step == saving.kept >= stopped - 1
    resumed = train_motion_adapter(denoiser, *job, small(), resume=state)
    assert equal(resumed.adapter, whole.adapter) and resumed.losses["total"] == whole.losses["total"]


@pytest.mark.usefixtures("lagging")
def test_a_nan_at_a_step_that_is_kept_leaves_the_one_before(denoiser, job, tmp_path):
    path, whole = tmp_path / "run.state.safetensors", train_motion_adapter(denoiser, *job, small())
    text = job[1]["encoder_hidden_states"]
    good = text.clone()

    def poison(run, _losses):
        if run.step == 3:
            text[:] = float("nan")

    with (
        pytest.raises(NonFiniteLoss, match=r"at step 4; the last good step \(3\)"),
        Saving(path, 2, on_step=poison) as saving,
    ):
        train_motion_adapter(denoiser, *job, small(), on_step=saving)
    text[:] = good
    state = TrainState.load(path)
    assert state.step == 3
    assert equal(train_motion_adapter(denoiser, *job, small(), resume=state).adapter, whole.adapter)


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), torch.OutOfMemoryError("CUDA, no memory")])
def test_the_state_is_kept_whatever_comes_of_what_is_written_beside_it(denoiser, job, tmp_path, caplog, reason):
    """The average of the weights is made on the device, where a stop for want of memory leaves no room for it."""
    path = tmp_path / "run.state.safetensors"

    def stop(run, _losses):
        if run.step == 3:
            raise torch.OutOfMemoryError("in the step")

    def beside(*_args):
        raise reason

    with pytest.raises(torch.OutOfMemoryError, match="in the step"):
        with Saving(path, 2, on_step=stop, beside=beside) as saving:
            train_motion_adapter(denoiser, *job, small(average=0.5), on_step=saving)
    assert TrainState.load(path).step == 3
    assert [r.getMessage()[:31] for r in caplog.records] == [
        "the adapter of step 2 is not wr",
        "the adapter of step 3 is not wr",
        "stopped after step 3 of 6; save",
    ]


def _stopping(step):
    def stop(run, _losses):
        if run.step == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("stopped", [3, 6])
def test_a_stop_leaves_the_adapter_of_its_step_too_the_last_step_included(denoiser, job, tmp_path, stopped):
    """After the last step of 6 as well: whoever would write the finished adapter is not reached."""
    written = []
    beside = lambda _adapter, losses, _config: written.append(len(losses["total"]))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        with Saving(tmp_path / "run.state.safetensors", 100, on_step=_stopping(stopped), beside=beside) as saving:
            train_motion_adapter(denoiser, *job, small(), on_step=saving)
    assert written == [stopped]


def test_a_finished_run_leaves_its_adapter_to_the_caller(denoiser, job, tmp_path):
    written = []
    beside = lambda _adapter, losses, _config: written.append(len(losses["total"]))  # noqa: E731
    with Saving(tmp_path / "run.state.safetensors", 4, beside=beside) as saving:
        train_motion_adapter(denoiser, *job, small(), on_step=saving)
    assert written == [4]


def test_a_stop_while_the_adapter_is_written_writes_it_again(denoiser, job, tmp_path):
    """A second Ctrl-C strikes at once: in the middle of what a step that is kept writes."""
    tries, written = [], []

    def beside(_adapter, losses, _config):
        tries.append(len(losses["total"]))
        if len(tries) == 2:
            raise KeyboardInterrupt
        written.append(tries[-1])

    with pytest.raises(KeyboardInterrupt), Saving(tmp_path / "run.state.safetensors", 2, beside=beside) as saving:
        train_motion_adapter(denoiser, *job, small(), on_step=saving)
    assert tries == [2, 4, 4] and written == [2, 4]


def test_what_a_kill_left_goes_even_where_nothing_is_written_again(denoiser, job, tmp_path):
    """Killed after the last state had its name, before the folder that it was written in was gone."""
    path = tmp_path / "run.state.safetensors"
    with Saving(path, 100) as saving:
        train_motion_adapter(denoiser, *job, small(steps=1), on_step=saving)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".{path.name}.{_HERE}-{process.pid:x}-00c0ffee").mkdir()
    with Saving(path, 100) as saving:
        train_motion_adapter(denoiser, *job, small(steps=1), on_step=saving, resume=TrainState.load(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_second_clip_of_one_name_does_not_take_the_firsts_state(denoiser, job, tmp_path):
    adapter = tmp_path / "a.safetensors"
    state = train_motion_adapter(denoiser, *job, small(steps=1)).state
    plain = state_path(adapter, state.learns_from)
    assert plain.name == "a.state.safetensors"
    state.save(plain)
    assert state_path(adapter, state.learns_from) == plain
    other = state_path(adapter, "0123456789abcdef")
    assert other.name == "a.0123456789abcdef.state.safetensors"
    with pytest.raises(ValueError, match="cannot resume: the earlier run learned from something else"):
        earlier_state(other, small(steps=1), "0123456789abcdef")
    plain.unlink()
    assert earlier_state(other, small(steps=1), "0123456789abcdef") is None


@pytest.mark.parametrize(
    "change",
    [
        {"step": "abc"},
        {"step": "9" * 5000},
        {"step": "7"},
        {"losses": "[" * 200_000},
        {"losses": '{"total": "a"}'},
        {"losses": "[]"},
        {"config": "[]"},
        {"config": "{}"},
        {"config": None},
        {"format": "other"},
    ],
    ids=str,
)
def test_a_damaged_state_is_refused_in_one_line_that_names_the_file(denoiser, job, tmp_path, change):
    path = tmp_path / "run.state.safetensors"
    train_motion_adapter(denoiser, *job, small(steps=2)).state.save(path)
    with safe_open(path, "pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, {**file.metadata(), **change}
    save_file(tensors, path, {k: v for k, v in metadata.items() if v is not None})
    with pytest.raises(ValueError, match=r"^cannot resume: [^\n]*run.state.safetensors[^\n]*$"):
        TrainState.load(path)


def test_resuming_to_fewer_steps_than_are_done_is_refused(denoiser, job, tmp_path):
    train_motion_adapter(denoiser, *job, small(steps=2)).state.save(tmp_path / "run.state.safetensors")
    check_earlier_run(tmp_path / "run.safetensors", small(steps=2), resume=True)
    with pytest.raises(ValueError, match="--steps 1: .*run.safetensors has done 2 steps"):
        check_earlier_run(tmp_path / "run.safetensors", small(steps=1), resume=True)


@pytest.mark.parametrize("broken", ["generator", "optimizer.0.exp_avg", "adapter.blocks.0.up.weight"])
def test_a_state_with_broken_tensors_is_refused(denoiser, job, tmp_path, broken):
    state = train_motion_adapter(denoiser, *job, small(steps=2)).state
    for name, value in (("gone", None), ("short", torch.zeros(3)), ("nan", torch.full((3,), float("nan")))):
        tensors = {k: v for k, v in state.tensors.items() if k != broken} | ({} if value is None else {broken: value})
        replace(state, tensors=tensors).save(tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match="cannot resume"):
            train_motion_adapter(
                denoiser, *job, small(steps=3), resume=TrainState.load(tmp_path / f"{name}.safetensors")
            )


def test_a_file_tells_the_last_finite_value_of_each_loss():
    """The tracking loss is NaN at steps whose noise is too high, the last one often."""
    losses = {"total": [3.0, 2.0, 1.0], "tracking": [0.5, 0.25, float("nan")], "never": [float("nan")] * 3}
    told = how_trained(TrainConfig(seed=4), losses)
    assert (told["steps"], told["seed"]) == ("3", "4")
    assert json.loads(told["losses"]) == {"total": 1.0, "tracking": 0.25}


def test_the_states_of_a_file_are_not_those_of_a_longer_name(tmp_path):
    names = ["dog.state.safetensors", "dog.0123456789abcdef.state.safetensors"]
    for name in [*names, "dog2.state.safetensors", "dog.big.state.safetensors", "dog.safetensors"]:
        (tmp_path / name).touch()
    assert [path.name for path in states_of(tmp_path / "dog.safetensors")] == sorted(names)


def test_text_of_another_encoding_does_not_end_a_training(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {"title": "caf\udce9"})
    assert read_metadata(tmp_path / "a.safetensors")["title"] == "caf?"

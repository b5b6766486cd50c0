"""Training: it learns, it resumes bit-exactly from any step, it is reproducible, and it stops cleanly."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.tracking.tracks import Tracks
from det_core.training.draws import DrawnFromViews
from det_core.training.loop import NonFiniteLoss, TrainConfig, check_resumable, fit, train_motion_adapter
from det_core.training.saved import Saving, earlier_state
from det_core.training.state import TrainState, state_path

FRAMES = 5


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    transformer = build_transformer(num_layers=3, num_heads=1).eval().requires_grad_(False)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    return DiffusersDenoiser(transformer, build_scheduler())


@pytest.fixture
def job():
    g = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, FRAMES, 4, 4, generator=g)
    cond = {"encoder_hidden_states": torch.randn(1, 8, 64, generator=g)}
    tracks = Tracks(torch.rand(6, FRAMES, 2, generator=g), torch.ones(6, FRAMES, dtype=torch.bool))
    return latents, cond, tracks


def small(**changes) -> TrainConfig:
    return TrainConfig(**{"steps": 6, "lr": 1e-2, "mid_dim": 4, "kernel_size": 3, "batch": 2, **changes})


def weights(adapter) -> list[torch.Tensor]:
    return [p.detach().clone() for p in adapter.parameters()]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_the_loss_falls(denoiser, job):
    result = train_motion_adapter(denoiser, *job, small(steps=60, batch=4, seed=3))
    total = result.losses["total"]
    assert sum(total[-15:]) < 0.9 * sum(total[:15])


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(denoiser, job):
    first, again, other = (train_motion_adapter(denoiser, *job, small(seed=s)).adapter for s in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


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


def test_gradients_reach_only_the_adapter_and_down_starts_at_rest(denoiser, job):
    """With up at zero, down gets no gradient in the first step, and the base model never does."""
    seen = {}

    def look(run, _losses):
        if run.step == 1:
            for name, p in run.adapter.named_parameters():
                seen[name] = p.grad.abs().sum().item()

    train_motion_adapter(denoiser, *job, small(steps=1), on_step=look)
    assert all(v == 0 for n, v in seen.items() if "down" in n)
    assert all(v > 0 for n, v in seen.items() if "up" in n)
    assert all(p.grad is None for p in denoiser.transformer.parameters())


def test_the_base_model_is_untouched_after_training_and_after_an_error(denoiser, job):
    before = {k: v.clone() for k, v in denoiser.transformer.state_dict().items()}

    def fail(_run, _losses):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        train_motion_adapter(denoiser, *job, small(), on_step=fail)
    train_motion_adapter(denoiser, *job, small(steps=1))
    assert all(torch.equal(v, before[k]) for k, v in denoiser.transformer.state_dict().items())
    assert not any("forward" in m.__dict__ for m in denoiser.transformer.modules())


def test_a_nan_stops_names_the_term_and_keeps_the_last_good_step(denoiser, job):
    latents, cond, tracks = job
    kept = []

    def poison(run, _losses):
        kept.append(weights(run.adapter))
        if run.step == 2:
            cond["encoder_hidden_states"][:] = float("nan")

    with pytest.raises(
        NonFiniteLoss, match=r"the denoising loss became nan at step 3; the last good step \(2\) is kept"
    ) as error:
        train_motion_adapter(denoiser, latents, cond, tracks, small(), on_step=poison)
    assert error.value.run.step == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(error.value.run.adapter), kept[-1], strict=True))


def test_the_tracking_loss_acts_only_where_the_noise_is_low(denoiser, job):
    losses = train_motion_adapter(denoiser, *job, small(steps=40, batch=1, tracking_weight=0.5)).losses
    tracked = [v == v for v in losses["tracking"]]
    assert 5 < sum(tracked) < 30  # t <= 400 of 1000
    for denoising, tracking, total in zip(*(losses[k] for k in ("denoising", "tracking", "total")), strict=True):
        expected = denoising + (0.5 * tracking if tracking == tracking else 0.0)
        assert total == pytest.approx(expected, rel=1e-5)
    without = train_motion_adapter(denoiser, job[0], job[1], None, small(steps=3))
    assert all(v != v for v in without.losses["tracking"])


def test_checkpointing_changes_nothing(denoiser, job):
    plain = train_motion_adapter(denoiser, *job, small(steps=3))
    denoiser.transformer.enable_gradient_checkpointing()
    checkpointed = train_motion_adapter(denoiser, *job, small(steps=3))
    assert equal(plain.adapter, checkpointed.adapter)


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="at least 1 step"):
        TrainConfig(steps=0)


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
    resumed = train_motion_adapter(denoiser, *job, config, resume=_stopped_at(denoiser, job, config, 3))
    assert equal(whole.adapter, resumed.adapter)


def _stopped_at(denoiser, job, config, step):
    states = []

    def keep(run, _losses):
        if run.step == step:
            states.append(run.state())

    train_motion_adapter(denoiser, *job, config, on_step=keep)
    return states[0]


def test_a_window_of_all_frames_is_the_whole_clip(denoiser, job):
    whole = train_motion_adapter(denoiser, *job, small())
    assert equal(whole.adapter, train_motion_adapter(denoiser, *job, small(frame_window=FRAMES)).adapter)


def test_training_on_windows_resumes_bit_exactly_and_differs_from_the_whole_clip(denoiser, job):
    config = small(frame_window=3)
    windows = train_motion_adapter(denoiser, *job, config)
    assert not equal(windows.adapter, train_motion_adapter(denoiser, *job, small()).adapter)
    resumed = train_motion_adapter(denoiser, *job, config, resume=_stopped_at(denoiser, job, config, 2))
    assert equal(windows.adapter, resumed.adapter)


def test_every_window_is_looked_at(denoiser, job, monkeypatch):
    seen, at_positions = set(), denoiser.at_positions
    monkeypatch.setattr(denoiser, "at_positions", lambda times, *rest: seen.add(times) or at_positions(times, *rest))
    train_motion_adapter(denoiser, *job, small(steps=8, batch=1, frame_window=FRAMES - 1))
    assert seen == {(0, 1, 2, 3), (1, 2, 3, 4)}


def test_a_step_on_the_whole_clip_draws_times_and_noise_alone(denoiser, job):
    draw, drawn, expected = DrawnFromViews(denoiser, *job, small()), torch.Generator(), torch.Generator()
    draw(drawn.manual_seed(7))
    denoiser.sample_t(2, expected.manual_seed(7))
    torch.randn(2, *draw.shape[1:], generator=expected)
    assert torch.equal(drawn.get_state(), expected.get_state())


def test_scale_changes_the_positions_that_the_model_sees(denoiser, job):
    full, reduced = (train_motion_adapter(denoiser, *job, small(steps=2, scale=s)) for s in (1.0, 0.5))
    assert full.losses["total"] != reduced.losses["total"]


@pytest.mark.parametrize("window", [1, 6])
def test_a_window_that_does_not_fit_is_refused(denoiser, job, window):
    with pytest.raises(ValueError, match=f"a window of {window} latent frames does not fit a clip of 5: choose 2 to 5"):
        train_motion_adapter(denoiser, *job, small(frame_window=window))


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="the training scale lies above 0 and at most at 1"):
        TrainConfig(scale=scale)


def test_a_state_from_before_a_setting_existed_resumes(denoiser, job):
    state = _stopped_at(denoiser, job, small(), 2)
    for name in ("scale", "frame_window", "train_down"):
        del state.config[name]
    resumed = train_motion_adapter(denoiser, *job, small(), resume=state)
    assert equal(resumed.adapter, train_motion_adapter(denoiser, *job, small()).adapter)
    with pytest.raises(ValueError, match="train_down True -> False"):
        train_motion_adapter(denoiser, *job, small(train_down=False), resume=state)


@pytest.mark.parametrize("policy", ["attention", "full"])
def test_every_checkpointing_gives_the_same_adapter(denoiser, job, policy):
    expected = train_motion_adapter(denoiser, *job, small(steps=3, checkpoint="none"))
    found = train_motion_adapter(denoiser, *job, small(steps=3, checkpoint=policy))
    assert equal(found.adapter, expected.adapter)
    assert not any("forward" in m.__dict__ for m in denoiser.transformer.modules())


def test_checkpointing_may_change_on_resume(denoiser, job):
    state = _stopped_at(denoiser, job, small(checkpoint="full"), 2)
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


@pytest.fixture
def lagging(monkeypatch):
    """Numbers are read a step late, as on a GPU."""
    from det_core.training import loop as train

    made = train.TrainingRun
    monkeypatch.setattr(train, "TrainingRun", lambda *args, lag: made(*args, lag=1))


def test_reading_losses_late_changes_nothing(denoiser, job, request):
    known = []
    at_once = train_motion_adapter(
        denoiser, *job, small(), on_step=lambda run, _losses: known.append(len(run.losses["total"]))
    )
    assert known == [1, 2, 3, 4, 5, 6]
    request.getfixturevalue("lagging")
    known = []
    late = train_motion_adapter(
        denoiser, *job, small(), on_step=lambda run, _losses: known.append(len(run.losses["total"]))
    )
    assert known == [1, 1, 2, 3, 4, 5]
    assert equal(late.adapter, at_once.adapter)
    assert [repr(v) for v in late.losses["total"]] == [repr(v) for v in at_once.losses["total"]]
    state = _stopped_at(denoiser, job, small(), 3)
    assert len(state.losses["total"]) == state.step == 3, "a state is always complete"
    assert equal(train_motion_adapter(denoiser, *job, small(), resume=state).adapter, at_once.adapter)


@pytest.mark.usefixtures("lagging")
def test_a_nan_that_is_seen_late_leaves_the_last_good_step(denoiser, job):
    latents, cond, tracks = job
    kept = []

    def poison(run, _losses):
        kept.append(weights(run.adapter))
        if run.step == 2:
            cond["encoder_hidden_states"][:] = float("nan")

    with pytest.raises(NonFiniteLoss, match=r"the denoising loss became nan at step 3; .* \(2\) is kept") as error:
        train_motion_adapter(denoiser, latents, cond, tracks, small(), on_step=poison)
    run = error.value.run
    assert len(kept) == 3, "step 3 was reported before its numbers arrived"
    assert run.step == len(run.losses["total"]) == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(run.adapter), kept[1], strict=True))
    cond["encoder_hidden_states"].normal_(generator=torch.Generator().manual_seed(1))
    state = run.state()
    assert state.step == 2 and all(v.isfinite().all() for v in state.tensors.values())


@pytest.mark.parametrize("block", [0, 2])
def test_a_nan_names_the_block_it_comes_from(denoiser, job, block):
    broken = denoiser.transformer.transformer_blocks[block].ff.net[2].weight
    with torch.no_grad():
        broken[0, 0] = float("inf")
    with pytest.raises(NonFiniteLoss, match=rf"at step 1; .* It first appears in block {block} of 3\."):
        train_motion_adapter(denoiser, *job, small())


def test_a_nan_in_the_conditioning_is_not_blamed_on_a_block(denoiser, job):
    job[1]["encoder_hidden_states"][:] = float("nan")
    with pytest.raises(NonFiniteLoss, match=r"It first appears in the input of block 0 of 3\."):
        train_motion_adapter(denoiser, *job, small())


# ---------------------------------------------------------------------------------------------- the optimiser's step


class Fixed:
    """A denoiser for a loss that needs no model."""

    device, transformer, spec = torch.device("cpu"), None, None

    def attached(self, _adapter):
        return nullcontext()

    def checkpointed(self, _policy):
        return nullcontext()


class OneWeight(torch.nn.Module):
    def __init__(self, value: float = 1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([value, -value]))


def fitted(config: TrainConfig, gradient: list[float], value: float = 1.0, seen: list | None = None) -> torch.Tensor:
    """The weights after training on a loss of this constant gradient."""
    module = OneWeight(value)

    def draw(_generator):
        return {"total": (module.weight * torch.tensor(gradient)).sum()}

    def look(run, _losses):
        if seen is not None:
            seen.append((run.optimizer.param_groups[0]["lr"], module.weight.grad.norm().item()))

    config = replace(config, checkpoint="none")
    fit(Fixed(), module, draw, config, learns_from="", shape=torch.Size(()), on_step=look)
    return module.weight.detach()


def test_the_learning_rate_rises_over_the_warm_up_and_falls_with_decay():
    for changes, expected in (
        ({}, [1.0] * 5),
        ({"warmup": 4}, [0.25, 0.5, 0.75, 1.0, 1.0]),
        ({"decay": True}, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ({"warmup": 2, "decay": True}, [0.5, 0.8, 0.6, 0.4, 0.2]),
    ):
        seen = []
        fitted(TrainConfig(steps=5, lr=1e-3, **changes), [1.0, 1.0], seen=seen)
        assert [lr / 1e-3 for lr, _ in seen] == pytest.approx(expected)


def test_gradients_are_clipped_to_their_norm():
    seen = []
    fitted(TrainConfig(steps=1, lr=1e-3, max_grad_norm=0.5), [30.0, 40.0], seen=seen)
    assert seen[0][1] == pytest.approx(0.5, rel=1e-4)
    fitted(TrainConfig(steps=1, lr=1e-3, max_grad_norm=0.5), [0.03, 0.04], seen=seen)
    assert seen[1][1] == pytest.approx(0.05, rel=1e-4), "a small one stays"


def test_steps_are_those_of_adamw_with_its_decay_and_betas():
    """Against AdamW as its paper writes it (arXiv 1711.05101)."""
    config = TrainConfig(steps=3, lr=1e-2, weight_decay=0.3, betas=(0.8, 0.9), max_grad_norm=1e9)
    weight, gradient = torch.tensor([2.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64)
    first, second = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for step in (1, 2, 3):
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        moved = (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        weight = weight * (1 - 1e-2 * 0.3) - 1e-2 * moved
    assert torch.allclose(fitted(config, [0.5, 3.0], 2.0).double(), weight, atol=1e-6)


def test_the_tracking_loss_reaches_the_adapter(denoiser, job):
    """Same seed, other weight of the term: the adapter differs, and by the tracking loss alone it moves."""
    without, with_it = (
        train_motion_adapter(denoiser, *job, small(steps=8, tracking_weight=weight)).adapter for weight in (0.0, 0.5)
    )
    assert not equal(without, with_it)
    alone = train_motion_adapter(
        denoiser, *job, small(steps=8, denoising_weight=0.0, tracking_weight=1.0, weight_decay=0.0)
    ).adapter
    assert any(kernel.up.weight.abs().sum() > 0 for kernel in alone.blocks.values())


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


def test_what_is_not_said_is_as_in_the_paper():
    config = TrainConfig()
    assert (config.steps, config.lr, config.weight_decay, config.batch) == (500, 1e-5, 1e-2, 1)
    assert (config.warmup, config.decay, config.scale, config.frame_window) == (0, False, 1.0, None)
    assert (config.denoising_weight, config.tracking_weight, config.timestep_power) == (1.0, 0.1, 1.0)
    assert (config.tracking_sampling, config.tracking_reduction, config.train_down) == ("bilinear", "visible", True)
    assert (config.betas, config.max_grad_norm, config.bf16, config.checkpoint) == ((0.9, 0.95), 1.0, False, "auto")

"""Training: it learns, it resumes bit-exactly from any step, it is reproducible, and it stops cleanly."""

import pytest
import torch
from small_training import FRAMES, equal, small, stopped_at, weights

from det_core.training.draws import DrawnFromViews
from det_core.training.loop import NonFiniteLoss, TrainConfig, train_motion_adapter
from det_core.training.losses import tracking_loss


def test_the_loss_falls(denoiser, job):
    result = train_motion_adapter(denoiser, *job, small(steps=60, batch=4, seed=3))
    total = result.losses["total"]
    assert sum(total[-15:]) < 0.9 * sum(total[:15])


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(denoiser, job):
    first, again, other = (train_motion_adapter(denoiser, *job, small(seed=s)).adapter for s in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


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


def test_of_a_batch_the_examples_of_low_noise_are_tracked(denoiser, job, monkeypatch):
    latents, cond, tracks = job
    made = []
    monkeypatch.setattr(denoiser, "sample_t", lambda count, *_: torch.tensor([900.0, 100.0, 950.0, 200.0])[:count])
    predict = denoiser.predict_x0
    monkeypatch.setattr(denoiser, "predict_x0", lambda *args: made.append(predict(*args)) or made[-1])
    terms = DrawnFromViews(denoiser, latents, cond, tracks, small(batch=4))(torch.Generator().manual_seed(0))
    expected = tracking_loss(made[0][[1, 3]], tracks)
    assert terms["tracking"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["total"].item() == pytest.approx(terms["denoising"].item() + 0.1 * expected.item() / 2, rel=1e-5)


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


def test_a_window_of_all_frames_is_the_whole_clip(denoiser, job):
    whole = train_motion_adapter(denoiser, *job, small())
    assert equal(whole.adapter, train_motion_adapter(denoiser, *job, small(frame_window=FRAMES)).adapter)


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


@pytest.mark.parametrize("policy", ["attention", "full"])
def test_every_checkpointing_gives_the_same_adapter(denoiser, job, policy):
    expected = train_motion_adapter(denoiser, *job, small(steps=3, checkpoint="none"))
    found = train_motion_adapter(denoiser, *job, small(steps=3, checkpoint=policy))
    assert equal(found.adapter, expected.adapter)
    assert not any("forward" in m.__dict__ for m in denoiser.transformer.modules())


@pytest.mark.parametrize("policy", ["none", "attention", "full"])
def test_the_checkpointing_that_is_asked_for_is_taken(denoiser, job, policy, monkeypatch):
    taken, own = [], denoiser.checkpointed
    monkeypatch.setattr(denoiser, "checkpointed", lambda name: taken.append(name) or own(name))
    train_motion_adapter(denoiser, *job, small(steps=1, checkpoint=policy))
    assert taken == [policy]


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
    state = stopped_at(denoiser, job, small(), 3)
    assert len(state.losses["total"]) == state.step == 3, "a state is always complete"
    assert equal(train_motion_adapter(denoiser, *job, small(), resume=state).adapter, at_once.adapter)


@pytest.mark.usefixtures("lagging")
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_nan_that_is_seen_late_leaves_the_last_good_step(denoiser, job, average):
    latents, cond, tracks = job
    kept = []

    def poison(run, _losses):
        kept.append(weights(run.learned))
        if run.step == 2:
            cond["encoder_hidden_states"][:] = float("nan")

    with pytest.raises(NonFiniteLoss, match=r"the denoising loss became nan at step 3; .* \(2\) is kept") as error:
        train_motion_adapter(denoiser, latents, cond, tracks, small(average=average), on_step=poison)
    run = error.value.run
    assert len(kept) == 3, "step 3 was reported before its numbers arrived"
    assert run.step == len(run.losses["total"]) == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(run.learned), kept[1], strict=True))
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


def test_what_is_not_said_is_as_in_the_paper():
    config = TrainConfig()
    assert (config.steps, config.lr, config.weight_decay, config.batch) == (500, 1e-5, 1e-2, 1)
    assert (config.warmup, config.decay, config.scale, config.frame_window) == (0, False, 1.0, None)
    assert (config.denoising_weight, config.tracking_weight, config.timestep_power) == (1.0, 0.1, 1.0)
    assert (config.tracking_sampling, config.tracking_reduction, config.train_down) == ("bilinear", "visible", True)
    assert (config.betas, config.max_grad_norm, config.bf16, config.checkpoint) == ((0.9, 0.95), 1.0, False, "auto")

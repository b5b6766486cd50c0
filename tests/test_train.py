"""Training: it learns, it resumes bit-exactly from any step, it is reproducible, and it stops cleanly."""

import pytest
import torch

from det_core.denoiser import DiffusersDenoiser
from det_core.tiny.model import build_scheduler, build_transformer
from det_core.tracks import Tracks
from det_core.train import NonFiniteLoss, TrainConfig, train_motion_adapter
from det_core.train_state import TrainState

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
    with pytest.raises(ValueError, match="steps 2 -> 4"):
        decaying = train_motion_adapter(denoiser, *job, small(steps=2, decay=True)).state
        train_motion_adapter(denoiser, *job, small(steps=4, decay=True), resume=decaying)


def test_a_damaged_state_file_is_refused(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(ValueError, match="cannot resume from .*state.safetensors"):
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
    with pytest.raises(ValueError, match="source"):
        train_motion_adapter(denoiser, latents + 1, cond, tracks, small(), resume=state)

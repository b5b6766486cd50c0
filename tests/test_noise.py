"""At which noise a training looks: uniform as the paper, a part of it, or where a base is really sampled."""

import pytest
import torch

from det_core.models.noise import SPANS, Noise, shifted
from det_core.training.config import TrainConfig

U = torch.linspace(0, 1, 1001)[:-1]


def even(left):
    return 1000 * left


def test_uniform_draws_are_those_of_the_paper_to_the_bit():
    assert torch.equal(Noise().times(U, even), 1000 * U)
    assert torch.equal(Noise(power=0.6).times(U, even), 1000 * U**0.6)


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("as_sampled", [False, True])
def test_draws_stay_in_their_span_and_fill_it(name, as_sampled):
    low, high = (1000 * end for end in SPANS[name])
    t = Noise(span=SPANS[name], as_sampled=as_sampled).times(U, lambda left: shifted(left, 5.0))
    assert low - 1e-3 <= t.min() < low + 6 and high - 6 < t.max() <= high + 1e-3
    assert (t.diff() > 0).all()


def test_times_as_sampled_have_no_power_of_their_own():
    drawn = [Noise(power=power, as_sampled=True).times(U, even) for power in (1.0, 0.6)]
    assert torch.equal(*drawn)


def test_times_as_sampled_are_those_of_a_shifted_sampler():
    """A long sampling's own times, in its own shares: half of a schedule with shift 5 lies above sigma 5/6."""
    t = Noise(as_sampled=True).times(U, lambda left: shifted(left, 5.0))
    torch.testing.assert_close(t, torch.tensor([shifted(u, 5.0) for u in U.tolist()]), rtol=0, atol=1e-3)
    assert t[500] == pytest.approx(1000 * 5 / 6, abs=0.1)
    high = Noise(span=SPANS["high"], as_sampled=True).times(U, lambda left: shifted(left, 5.0))
    inside = t[t >= 800]
    assert high.mean() == pytest.approx(inside.mean().item(), abs=1), "the same shares within the span"


def test_tracking_acts_in_the_last_two_fifths_of_the_steps():
    assert Noise().track_limit(550, even) == 550
    assert Noise(as_sampled=True).track_limit(400, even) == 400, "CogVideoX, as the paper trains it"
    assert Noise(as_sampled=True).track_limit(550, lambda left: shifted(left, 5.0)) == pytest.approx(769.23, abs=0.01)


def test_what_is_no_noise_is_refused():
    with pytest.raises(ValueError, match="noise is one of uniform, as sampled"):
        TrainConfig(noise="gaussian")
    with pytest.raises(ValueError, match="from 0 .clean. to 1 at most, got 0.9 to 0.8"):
        TrainConfig(noise_span=(0.9, 0.8))
    with pytest.raises(ValueError, match="got -0.1 to 0.5"):
        TrainConfig(noise_span=(-0.1, 0.5))
    with pytest.raises(ValueError, match="got 0.5 to 0.5"):
        TrainConfig(noise_span=(0.5, 0.5))

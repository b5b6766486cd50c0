"""The optimiser's step: learning rate, clipping, AdamW's decay and betas."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from det_core.training.loop import TrainConfig, fit

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


def test_a_training_ends_at_its_last_step():
    """Also above 256, up to where Python has one object a number."""

    class Shown(list):
        def append(self, shown):
            assert len(self) < 300, "the training goes on"
            super().append(shown)

    shown = Shown()
    fitted(TrainConfig(steps=300, lr=1e-3), [1.0, 1.0], seen=shown)
    assert len(shown) == 300

"""Weights are known again however their file stores them; other weights of the same shape are not taken for them."""

import pytest
import torch
from tiny_dits import build

from det_core.models.identity import Identity


def weights(seed=0, blocks=3):
    model = build("wan", blocks=blocks, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=generator) for k, v in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_same_weights_in_another_format_are_the_same(dtype):
    own = weights()
    stored = {k: v.to(dtype) for k, v in own.items()}
    assert Identity.of(stored.items()).same(Identity.of(own.items()))
    assert len(Identity.of(own.items()).numbers) == 32


def test_weights_that_were_trained_on_are_others():
    own = weights()
    tuned = {k: v + 0.02 * v.std() for k, v in own.items()}
    assert not Identity.of(own.items()).same(Identity.of(tuned.items()))
    assert not Identity.of(own.items()).same(Identity.of(weights(seed=1).items()))


def test_scales_of_quantised_layers_and_matrices_do_not_count():
    own = weights()
    quantised = {k: v if v.ndim == 1 else torch.zeros(1) for k, v in own.items() if v.ndim == 1}
    quantised |= {f"{k}_scale": torch.ones(4) for k in own}
    assert Identity.of(quantised.items()) == Identity.of(own.items())


def test_what_a_file_says_is_read_back_and_nothing_else():
    own = Identity.of(weights().items())
    assert Identity.read(own.text) == own
    for other in ("", "{}", "[1, 2, 3]", "[[1], null]", '[["a"], 1]', "[" * 900, "[" * 800):
        assert Identity.read(other) is None

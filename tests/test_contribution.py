"""What each block's kernel adds, measured while the model does what it does without the measuring."""

import pytest
import torch
from tiny_dits import FAMILIES, build, call_for, filled_adapter

from det_core.adapter.attach import tapped
from det_core.adapter.contribution import Contributions
from det_core.models.families import spec_for


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_grow_with_the_kernels_and_change_nothing(family):
    model = build(family)
    spec, call, adapter = spec_for(model), call_for(family, model), filled_adapter(model)
    kernels = {block: adapter.kernels[block] for block in (0, 1)}
    with tapped(model, spec, kernels, lambda: call.grid):
        plain = call(model)
    measured = {}
    for factor in (1.0, 2.0):
        contributions = Contributions()
        with tapped(model, spec, contributions.of(kernels), lambda: call.grid, factor):
            result = call(model)
        measured[factor] = contributions.shares()
        if factor == 1.0:
            assert torch.allclose(result, plain, atol=1e-5)
    assert list(measured[1.0]) == [0, 1] and all(share > 0 for share in measured[1.0].values())
    assert measured[2.0][0] == pytest.approx(2 * measured[1.0][0], rel=1e-3)  # the first sees the same tokens


def test_the_share_is_a_ratio_of_root_mean_squares():
    class Adds:
        def hidden(self, x, grid):
            return x

        def expand(self, hidden, grid):
            return torch.full_like(hidden, 3.0)

    contributions, base = Contributions(), torch.full((1, 4, 2), 6.0)
    kernel = contributions.of({7: Adds()})[7]
    assert kernel.expand_onto(base, base.clone(), (1, 2, 2)).equal(torch.full((1, 4, 2), 9.0)) and base[0, 0, 0] == 9
    assert contributions.shares() == {7: 0.5}

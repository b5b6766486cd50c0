"""Motion fidelity as the released code computes it, and what it cannot tell."""

import math

import numpy as np
import pytest
import torch
from some_motions import curved, straight, with_points

from det_core.metrics import motion_fidelity


def direct_reference_code(source, generated, ids):
    """The released evaluation by loops over tracks and frames."""

    def vectors(points):
        rows = [points[0]] + [points[t + 1] - points[t] for t in range(len(points) - 1)]
        return [r / np.linalg.norm(r) for r in rows]

    a, b = generated.points.double().numpy(), source.points.double().numpy()
    cosine = []
    for p in a:
        u = vectors(p)
        cosine.append(max(np.mean([x @ y for x, y in zip(u, vectors(q), strict=True)]) for q in b))
    shape = []
    for i in ids:
        each = []
        for j in ids:
            total = sum(math.dist(x, y) for x in a[i] for y in b[j])
            each.append(1 / (1 + total / (a.shape[1] * b.shape[1])))
        shape.append(max(each))
    return 0.5 * np.mean(cosine) + 0.5 * np.mean(shape)


def test_reference_code_equals_a_direct_loop():
    source, generated = curved(8, 7, seed=1), curved(8, 7, seed=2)
    ids = torch.randint(0, 8, (50,), generator=torch.Generator().manual_seed(5))
    score = motion_fidelity(source, generated, "reference_code", generator=torch.Generator().manual_seed(5))
    assert score.score == pytest.approx(direct_reference_code(source, generated, ids.tolist()), abs=1e-6)
    again = motion_fidelity(source, generated, "reference_code")
    assert again.score == motion_fidelity(source, generated, "reference_code").score  # seeded by itself


def test_reference_code_cannot_tell_motion_from_none():
    """The known weakness of its distance half, and the reason why the true Frechet distance is the default."""
    source = straight(count=50, frames=49)
    reverse = motion_fidelity(source, with_points(source, source.points.flip(1)), "reference_code")
    still = motion_fidelity(
        source,
        with_points(source, source.points[:, :1].expand_as(source.points)),
        "reference_code",
    )
    same = motion_fidelity(source, source, "reference_code")
    assert abs(same.shape - reverse.shape) < 1e-6
    assert still.shape > same.shape - 0.01
    assert math.isfinite(still.score)

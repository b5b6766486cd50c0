"""The losses of eq. 3-5 against direct loops."""

import pytest
import torch

from det_core.tracking.tracks import Tracks
from det_core.training.losses import denoising_loss, tracking_loss


def test_denoising_loss_is_the_velocity_error():
    g = torch.Generator().manual_seed(0)
    x0, noise, v_error = (torch.randn(2, 3, 4, 5, 6, generator=g) for _ in range(3))
    alpha = torch.tensor([0.9, 0.2])[:, None, None, None, None]
    x_t = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    v = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    x0_pred = alpha.sqrt() * x_t - (1 - alpha).sqrt() * (v + v_error)  # eq. 3 with a known error in v
    loss = denoising_loss(x0_pred, x0, 1 / (1 - alpha.flatten()))
    assert loss.item() == pytest.approx(v_error.square().mean().item(), rel=1e-5)


def direct_tracking_loss(x0_pred, tracks, reduction):
    """Eq. 4 by loops, nearest cell, identity between frames and latent frames."""
    batch, channels, frames, height, width = x0_pred.shape
    total, count = 0.0, 0
    for b in range(batch):
        for n in range(len(tracks)):
            cells = []
            for t in range(frames):
                x, y = tracks.points[n, t].tolist()
                inside = 0 <= x < 1 and 0 <= y < 1
                seen = bool(tracks.visible[n, t]) and inside
                cells.append((int(y * height), int(x * width)) if seen else None)
            for t in range(frames - 1):
                if cells[t] and cells[t + 1]:
                    (y0, x0), (y1, x1) = cells[t], cells[t + 1]
                    change = x0_pred[b, :, t + 1, y1, x1] - x0_pred[b, :, t, y0, x0]
                    total += change.square().mean().item()
                    count += 1
    return total / (count if reduction == "visible" else batch * len(tracks) * (frames - 1))


@pytest.mark.parametrize("shape", [(1, 1, 2, 1, 1), (2, 16, 9, 8, 8), (1, 3, 5, 7, 11)])
@pytest.mark.parametrize("reduction", ["visible", "all"])
def test_tracking_loss_against_loops(shape, reduction):
    g = torch.Generator().manual_seed(1)
    x0_pred = torch.randn(shape, generator=g)
    points = torch.rand(13, shape[2], 2, generator=g) * 1.3 - 0.15  # some outside the picture
    tracks = Tracks(points, torch.rand(13, shape[2], generator=g) < 0.7)
    ours = tracking_loss(x0_pred, tracks, sampling="nearest", reduction=reduction)
    assert ours.item() == pytest.approx(direct_tracking_loss(x0_pred, tracks, reduction), rel=1e-5)


def test_tracking_loss_counts_pairs_seen_at_both_ends():
    x0_pred = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    points = torch.full((1, 3, 2), 0.4)
    one_sided = Tracks(points, torch.tensor([[True, False, True]]))
    assert tracking_loss(x0_pred, one_sided).item() == 0.0  # the released code would count two pairs here


def test_tracking_loss_vanishes_on_a_feature_that_moves_along_the_track():
    latent = torch.zeros(1, 2, 4, 8, 8)
    points = torch.zeros(1, 4, 2)
    for t in range(4):
        latent[0, :, t, 3, 1 + t] = torch.tensor([1.0, -2.0])
        points[0, t] = torch.tensor([(1 + t + 0.5) / 8, 3.5 / 8])
    visible = torch.ones(1, 4, dtype=torch.bool)
    assert tracking_loss(latent, Tracks(points, visible)).item() == pytest.approx(0.0, abs=1e-12)
    assert tracking_loss(latent, Tracks(points[:, :1].expand(1, 4, 2), visible)).item() > 0.5


def test_tracking_loss_maps_pixel_frames_of_a_causal_vae():
    """13 video frames, 4 latent frames: latent i is read at video frame 4i."""
    latent = torch.zeros(1, 1, 4, 4, 4)
    points = torch.full((1, 13, 2), 0.9)
    for i in range(4):
        latent[0, 0, i, i, i] = 1.0
        points[0, 4 * i] = (i + 0.5) / 4
    assert tracking_loss(latent, Tracks(points, torch.ones(1, 13, dtype=torch.bool))).item() == pytest.approx(
        0, abs=1e-12
    )


def test_no_visible_pair_gives_zero_with_a_gradient():
    x0_pred = torch.randn(1, 2, 3, 4, 4, requires_grad=True)
    loss = tracking_loss(x0_pred, Tracks(torch.full((2, 3, 2), 0.5), torch.zeros(2, 3, dtype=torch.bool)))
    loss.backward()
    assert loss.item() == 0.0 and x0_pred.grad.abs().sum() == 0.0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float64, 1e-6)])
def test_losses_reduce_in_float32(dtype, tolerance):
    g = torch.Generator().manual_seed(3)
    x0_pred, x0 = torch.randn(1, 4, 5, 6, 6, generator=g), torch.randn(1, 4, 5, 6, 6, generator=g)
    tracks = Tracks(torch.rand(7, 5, 2, generator=g), torch.ones(7, 5, dtype=torch.bool))
    for loss in (lambda x: tracking_loss(x, tracks), lambda x: denoising_loss(x, x0.to(dtype), torch.ones(1))):
        low = loss(x0_pred.to(dtype))
        assert low.dtype == torch.float32
        assert low.item() == pytest.approx(loss(x0_pred).item(), rel=tolerance)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match='"visible" or "all", not \'mean\''):
        tracking_loss(torch.zeros(1, 1, 2, 2, 2), Tracks(torch.zeros(1, 2, 2), torch.ones(1, 2)), reduction="mean")


@pytest.mark.parametrize("reduction", ["visible", "all"])
def test_one_counted_pair_is_divided_by_one(reduction):
    """One point over two frames: the loss is the squared change of what is read there, nothing less."""
    x0 = torch.zeros(1, 2, 2, 1, 1)
    x0[0, :, 1] = 3.0
    tracks = Tracks(torch.full((1, 2, 2), 0.5), torch.ones(1, 2, dtype=torch.bool))
    assert tracking_loss(x0, tracks, reduction=reduction).item() == pytest.approx(9.0)

"""The tracks of a real clip at the size the paper trains at, 49x480x720, through small transformers of each family."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_dits import LATENT_CHANNELS, TEXT_LENGTH, TEXT_WIDTH, build

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler
from det_core.models.sample import sample
from det_core.tracking.tracks import Tracks
from det_core.training.loop import TrainConfig, train_motion_adapter

LATENT = (13, 60, 90)  # of 49x480x720; 13x30x45 tokens


@pytest.fixture(scope="module")
def tracks(shared_data) -> Tracks:
    stored = np.load(shared_data / "mtbench" / "dance-twirl" / "trajectories.npz")
    return Tracks(torch.from_numpy(stored["tracks"]).transpose(0, 1), torch.from_numpy(stored["visible"]).T)


def condition(family: str) -> dict[str, torch.Tensor]:
    cond = {
        "encoder_hidden_states": torch.randn(1, TEXT_LENGTH, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))
    }
    if family == "hunyuan_video":
        cond |= {"pooled_projections": torch.zeros(1, 8), "encoder_attention_mask": torch.ones(1, TEXT_LENGTH)}
    return cond


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video", "wan"])
def test_train_save_load_drop_sample(family, tracks, tmp_path):
    model = build(family, heads=1, blocks=1 if family == "hunyuan_video" else 2)
    model.enable_gradient_checkpointing()
    denoiser = DiffusersDenoiser(
        model, build_scheduler() if family == "cogvideox" else FlowMatchEulerDiscreteScheduler()
    )
    spec = denoiser.spec
    assert LATENT == (spec.frames.latent_frames(49), 480 // spec.spatial_compression, 720 // spec.spatial_compression)
    assert spec.grid((1, 4, *LATENT)) == (13, 30, 45)
    latents = torch.randn(1, LATENT_CHANNELS[family], *LATENT, generator=torch.Generator().manual_seed(0))
    cond = condition(family)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    config = TrainConfig(steps=2, lr=1e-3, mid_dim=8, kernel_size=3, seed=4)
    result = train_motion_adapter(denoiser, latents, cond, tracks, config)
    result.adapter.save(tmp_path / "adapter.safetensors")
    adapter = MotionAdapter.load(tmp_path / "adapter.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), result.adapter.parameters(), strict=True))
    assert all(kernel.up.weight.abs().sum() > 0 for kernel in adapter.blocks.values())

    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    base, replayed, none_kept = (
        sample(denoiser, cond, None, noise, steps=1, adapter=adapter if keep is not None else None, keep=keep)
        for keep in (None, [0], [])
    )
    assert replayed.shape == latents.shape and replayed.isfinite().all()
    assert not torch.equal(base, replayed)
    assert torch.equal(base, none_kept)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_tracking_loss_is_alive_at_this_geometry(tracks):
    from det_core.training.losses import tracking_loss

    points, visible = tracks.to_grid(*LATENT)
    assert points.shape == (100, 13, 2) and 0.2 < visible.float().mean() < 0.5  # 35 % of all pairs are visible
    latents = torch.randn(1, 4, *LATENT, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = tracking_loss(latents, tracks)
    loss.backward()
    assert 0.2 < loss.item() < 2.1  # about 2 for independent unit noise, less where bilinear reading averages it
    touched = (latents.grad.abs().sum((0, 1)) > 0).float().mean().item()
    assert 0 < touched < 0.05

"""A training small enough for a test: models, clip and settings; adapters compared."""

import torch

from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.base_model import EmbeddedModel
from det_core.models.embedded.codec import PatchCodec
from det_core.models.embedded.corpus import Scene
from det_core.models.embedded.corpus import random_clip as random_frames
from det_core.models.embedded.model import TinyModel, build_scheduler, build_transformer
from det_core.models.embedded.text import WordEncoder
from det_core.tracking.tracks import Tracks
from det_core.training.loop import TrainConfig, train_motion_adapter
from det_core.training.state import TrainState

FRAMES = 5  # latent frames of `random_clip`


def random_denoiser() -> DiffusersDenoiser:
    """A transformer of three random blocks and one head."""
    torch.manual_seed(0)
    transformer = build_transformer(num_layers=3, num_heads=1).eval().requires_grad_(False)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    return DiffusersDenoiser(transformer, build_scheduler())


def random_embedded() -> EmbeddedModel:
    """The embedded model with two random blocks of one head."""
    g = torch.Generator().manual_seed(0)
    codec = PatchCodec.fit(torch.cat([random_frames(g, Scene.training()).frames for _ in range(24)]))
    torch.manual_seed(0)
    transformer = build_transformer(2, 1).eval().requires_grad_(False)
    return EmbeddedModel(tiny=TinyModel(transformer, codec, WordEncoder.create(g)))


def random_clip() -> tuple[torch.Tensor, dict[str, torch.Tensor], Tracks]:
    """Latents, condition and tracks."""
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


def stopped_at(denoiser, job, config, step) -> TrainState:
    """The state after `step` steps of a training."""
    states = []

    def keep(run, _losses):
        if run.step == step:
            states.append(run.state())

    train_motion_adapter(denoiser, *job, config, on_step=keep)
    return states[0]

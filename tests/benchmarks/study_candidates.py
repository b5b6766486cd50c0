"""Ways to make the training cheaper that the pack does not have, as trainings of the study."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from study_methods import Motion, Train, Trained, attached, beside, config_of, count, det

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.guidance.losses import feature_loss, motion_features
from det_core.guidance.reading import read_tokens
from det_core.training.draws import DrawnFromViews
from det_core.training.loop import DrawLoss, TrainConfig, fit
from det_core.training.losses import Followed
from det_core.training.presets import preset_config
from det_core.training.views import View

LAST = {"average": 0.0, "decay": True}  # the last step's weights, the rate falling to zero
NOISY = {"noise_span": (0.8, 1.0), "timestep_power": 1.0}


def fast(motion: Motion, kernel_size: int | None = None, **changes) -> Trained:
    """The preset `fast`, with some settings changed."""
    preset = preset_config("fast", motion.spec)
    own = ("steps", "batch", "lr", "warmup", "timestep_power", "decay", "average")
    settings = {name: getattr(preset, name) for name in own} | changes
    return beside(motion, partial(det, kernel_size=kernel_size), **settings)


def short(motion: Motion, **changes) -> TrainConfig:
    """As `fast` was when these were compared: the rate falling, the last step's weights."""
    return config_of(motion, **{"batch": 2, "lr": 2e-2, "warmup": 5, "timestep_power": 0.6, **changes})


class FeatureDraw:
    """Guidance's loss as a training's: features of the noised source at the guided block against the clean source's. No
    later block is run."""

    def __init__(self, motion: Motion, config: TrainConfig):
        self.motion, self.config, self.grid = motion, config, motion.spec.grid(motion.latents.shape)
        empty = motion.model.encode_prompts([""])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, config.bf16):
            self.target = self._features(motion.latents, torch.zeros(1), empty)

    def _features(self, x, t, cond) -> torch.Tensor:
        denoiser, spec = self.motion.denoiser, self.motion.spec
        call = partial(denoiser.predict_x0, x, t, cond)
        return read_tokens(
            denoiser.transformer, spec, spec.guide_block, self.grid, call, lambda x: motion_features(x, self.grid)
        )

    def __call__(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        denoiser, batch = self.motion.denoiser, self.config.batch
        x0 = self.motion.latents.expand(batch, *self.motion.latents.shape[1:])
        cond = {k: v.expand(batch, *v.shape[1:]) for k, v in self.motion.cond.items()}
        t = denoiser.sample_t(batch, generator, self.config.draw)
        noise = torch.randn(x0.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, self.config.bf16):
            features = self._features(denoiser.add_noise(x0, noise, t), t, cond)
        loss = feature_loss(features, self.target).mean()
        return {"denoising": loss, "total": loss}


class Cropped(DrawnFromViews):
    """Crops of 6x6 of the 8x8 cells at their true places: of all nine, those with at least the median's share of the
    tracks."""

    def __init__(self, motion: Motion, config: TrainConfig, side: int = 6):
        super().__init__(motion.denoiser, motion.latents, motion.cond, motion.source.tracks, config)
        whole, size = self.views[0], motion.latents.shape[-1]
        corners = [(top, left) for top in range(size - side + 1) for left in range(size - side + 1)]
        views = [_crop(whole, top, left, side) for top, left in corners]
        seen = [int(view.tracks.visible.sum()) for view in views]
        median = sorted(seen)[len(seen) // 2]
        self.views = [view for view, points in zip(views, seen, strict=True) if points >= median]
        self.shape = self.views[0].latents.shape
        self.followed = [Followed.of(view.tracks, self.shape, motion.denoiser.device) for view in self.views]


def _crop(whole: View, top: int, left: int, side: int) -> View:
    points = (whole.tracks.points * whole.latents.shape[-1] - torch.tensor([left, top])) / side
    visible = ((points >= 0) & (points <= 1)).all(-1) & whole.tracks.visible
    cells = whole.latents[..., top : top + side, left : left + side].contiguous()
    rows, columns = (tuple(float(i) for i in range(start, start + side)) for start in (top, left))
    return View(cells, replace(whole.tracks, points=points, visible=visible), None, rows, columns)


def first_kernels(motion: Motion, blocks: int) -> MotionAdapter:
    """Kernels in the first blocks alone; the gradient of a loss at the end still passes the later ones."""
    whole = det(motion)
    return MotionAdapter(whole.base_model, whole.num_blocks, {i: k for i, k in whole.kernels.items() if i < blocks})


def learned(motion: Motion, adapter: MotionAdapter, config: TrainConfig, draw: DrawLoss, shape: torch.Size) -> Trained:
    adapter = fit(motion.denoiser, adapter, draw, config, learns_from="", shape=shape).adapter
    return Trained(count(adapter), partial(attached, motion, adapter))


def whole_clip(motion: Motion, config: TrainConfig) -> DrawnFromViews:
    return DrawnFromViews(motion.denoiser, motion.latents, motion.cond, motion.source.tracks, config)


def cropped(motion: Motion) -> Trained:
    config = short(motion)
    draw = Cropped(motion, config)
    return learned(motion, det(motion), config, draw, draw.shape)


def kept_only(motion: Motion, blocks: int, **changes) -> Trained:
    config = short(motion, **changes)
    return learned(motion, first_kernels(motion, blocks), config, whole_clip(motion, config), motion.latents.shape)


def by_features(motion: Motion, blocks: int, **changes) -> Trained:
    """Kernels up to the guided block, 100 steps of four draws, with `FeatureDraw` for a loss."""
    config = short(motion, batch=4, lr=1e-2, **changes)
    return learned(motion, first_kernels(motion, blocks), config, FeatureDraw(motion, config), motion.latents.shape)


def from_guidance(motion: Motion, size: float) -> Trained:
    """Up projections start at one step of this root mean square along the gradient of `FeatureDraw` (8 noisy draws)."""
    adapter, config = det(motion), short(motion)
    draw = FeatureDraw(motion, short(motion, batch=4, **NOISY))
    generator = torch.Generator().manual_seed(motion.seed + 7)
    with motion.denoiser.attached(adapter), torch.enable_grad():
        for _ in range(2):
            draw(generator)["total"].backward()
    for kernel in adapter.blocks.values():
        slope = kernel.up.weight.grad
        if slope is not None:
            kernel.up.weight.data.copy_(-size * slope / slope.square().mean().sqrt())
    adapter.zero_grad(set_to_none=True)
    return learned(motion, adapter, config, whole_clip(motion, config), motion.latents.shape)


CANDIDATES: dict[str, Train] = {
    "fast": fast,
    "fast, last weights": partial(fast, **LAST),
    "fast, lr 0.014": partial(fast, lr=1.4e-2),
    "fast, lr 0.01": partial(fast, lr=1e-2),
    "last weights, lr 0.014": partial(fast, lr=1.4e-2, **LAST),
    "last weights, lr 0.01": partial(fast, lr=1e-2, **LAST),
    "last weights, kernel 5": partial(fast, kernel_size=5, lr=1e-2, **LAST),
    "last weights, size 0.75": partial(fast, scale=0.75, **LAST),
    "kernels in 3": partial(kept_only, blocks=3, average=0.95, decay=False),
    "last weights, kernels in 3": partial(kept_only, blocks=3),
    "crops": cropped,
    "from guidance": partial(from_guidance, size=0.02),
    "by features": partial(by_features, blocks=4),
    "by features, noisy": partial(by_features, blocks=4, **NOISY),
}

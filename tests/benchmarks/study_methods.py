"""How each method of the study is trained on one source motion, and put on the model for sampling."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from study_source import Unit
from torch import nn

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.baselines.conv3d import conv3d_adapter
from det_core.baselines.full import FullFineTuning
from det_core.baselines.local_attention import local_attention_adapter
from det_core.baselines.motion_inversion import MotionInversion
from det_core.fym.classify import classify_heads
from det_core.fym.sparse import Example, RandomFrames, sparse_latents, still_examples
from det_core.fym.train import LoRAConfig, group_lora, train_lora
from det_core.lora.lora import LoRA
from det_core.models.compute.precision import Compute
from det_core.training.draws import DrawnFromViews
from det_core.training.loop import TrainConfig, fit
from det_core.training.views import scaled_frames

BF16 = Compute.on("cpu").bf16  # as every command computes here
PARAMETERS = 196_608  # of a motion adapter with the embedded model's own settings; the other forms are sized to it


@dataclass(frozen=True)
class Trained:
    """parameters: how many were trained; apply: a row's `how` -> the context in which the model samples with them."""

    parameters: int
    apply: Callable[[Any], AbstractContextManager]


Train = Callable[[Unit], Trained]


def blocks_kept(num_blocks: int, dropped: str | None, share: float) -> list[int]:
    """The blocks that stay when a share of the "last" or "first" blocks is dropped, rounded as `kept_blocks` does."""
    from det_core.models.families import kept_blocks

    kept = kept_blocks(num_blocks, share)
    return kept if dropped == "last" else list(range(num_blocks - len(kept), num_blocks))


def beside(make: Callable[[Unit, torch.Generator], nn.Module], **changes) -> Train:
    """A module beside every block's attention. A row's `how` is ("last" or "first", share of the blocks dropped)."""

    def train(unit: Unit) -> Trained:
        adapter = fitted(unit, make(unit, generator_of(unit)), changes)
        transformer = unit.denoiser.transformer
        return Trained(
            count(adapter), lambda how: attach(transformer, adapter, keep=blocks_kept(unit.spec.num_blocks, *how))
        )

    return train


def whole(make: Callable[[Unit, torch.Generator], nn.Module], **changes) -> Train:
    """A module that installs itself, as a whole."""

    def train(unit: Unit) -> Trained:
        module = fitted(unit, make(unit, generator_of(unit)), changes).eval()
        return Trained(count(module), lambda _how: module.attached_to(unit.denoiser.transformer))

    return train


def fitted(unit: Unit, module: nn.Module, changes: dict) -> nn.Module:
    config = TrainConfig.for_spec(
        unit.spec, **{"steps": unit.plan.steps, "seed": unit.index, "bf16": BF16, **steps_of(unit, changes)}
    )
    if isinstance(module, MotionAdapter):
        for kernel in module.blocks.values():
            kernel.down.requires_grad_(config.train_down)
    latents = unit.model.encode_video(scaled_frames(unit.source.pixels, unit.spec, config.scale))
    draw = DrawnFromViews(unit.denoiser, latents, unit.cond, unit.source.tracks, config)
    fit(unit.denoiser, module, draw, config, learns_from="", shape=draw.shape)
    return module


def steps_of(unit: Unit, changes: dict) -> dict:
    """`changes` with a number of steps scaled to the plan's."""
    if "steps" not in changes:
        return changes
    return {**changes, "steps": max(1, round(changes["steps"] * unit.plan.steps / 100))}


def generator_of(unit: Unit) -> torch.Generator:
    return torch.Generator().manual_seed(unit.index)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


# ------------------------------------------------------------------------------------------- the forms


def det(unit: Unit, generator: torch.Generator, **sizes) -> MotionAdapter:
    return MotionAdapter.create(unit.spec, **sizes, generator=generator)


def lora(unit: Unit, generator: torch.Generator) -> LoRA:
    return LoRA(unit.denoiser.transformer, 24, generator)  # 24 * 2 * 128 * 4 projections * 8 blocks: the same size


def full(unit: Unit, _generator: torch.Generator) -> FullFineTuning:
    return FullFineTuning(unit.denoiser.transformer)


def conv3d(unit: Unit, generator: torch.Generator, mid_dim: int = 4) -> nn.Module:
    return conv3d_adapter(unit.spec, mid_dim, generator)  # 4: 221 184 parameters, 3 would be 165 888


def local_attention(unit: Unit, generator: torch.Generator, window: tuple[int, int, int]) -> nn.Module:
    return local_attention_adapter(unit.spec, 48, generator, window)  # and a bias for every offset in the window


def motion_inversion(unit: Unit, _generator: torch.Generator) -> MotionInversion:
    return MotionInversion(unit.denoiser.transformer, unit.spec.grid(unit.latents.shape))


# ------------------------------------------------------------------------------------------- Follow-Your-Motion


class Displaced(RandomFrames):
    """Sparse frames that stand at 0, 1, 2, ... instead of at their own times."""

    def draw(self, generator: torch.Generator) -> Example:
        return replace(super().draw(generator), positions=None)


def follow_your_motion(
    decoupled: bool = True,
    adaptive: bool = True,
    frames: int = 5,
    spacing: str = "random",
    **temporal_changes,
) -> Train:
    """Both stages, with the settings and steps of `LoRAConfig.for_stage`; a row's `how`: (spatial, temporal) strength.

    decoupled: two groups of heads; otherwise both stages train all heads at half the rank, which is as many parameters.
    adaptive: sparse frames stand at their own times; otherwise at 0, 1, 2, ...
    frames, spacing: latent frames of 9 that a step of the temporal stage looks at, and how they lie.
    """

    def train(unit: Unit) -> Trained:
        denoiser, transformer = unit.denoiser, unit.denoiser.transformer
        shared = {"seed": unit.index, "bf16": BF16}
        configs = {
            "spatial": LoRAConfig.for_stage(unit.spec, "spatial", **shared),
            "temporal": LoRAConfig.for_stage(unit.spec, "temporal", **shared, **temporal_changes),
        }
        configs = {stage: replace(c, **steps_of(unit, {"steps": c.steps})) for stage, c in configs.items()}
        if decoupled:
            heads = classify_heads(denoiser, unit.latents, unit.cond, seed=unit.index)
            loras = {group: group_lora(transformer, heads, group, config) for group, config in configs.items()}
        else:
            loras = {
                group: LoRA(transformer, max(1, c.rank // 2), generator_of(unit), kinds=c.kinds)
                for group, c in configs.items()
            }
        parameters = count(*loras.values())
        stills = still_examples(unit.model.encode_video, unit.source.pixels)
        train_lora(denoiser, loras["spatial"], stills, unit.cond, configs["spatial"])
        examples = sparse_latents(unit.latents, frames, spacing) if adaptive else Displaced(unit.latents, frames)
        train_lora(denoiser, loras["temporal"], examples, unit.cond, configs["temporal"], frozen=loras["spatial"])

        @contextmanager
        def applied(strengths):
            with ExitStack() as stack:
                for module, strength in zip(loras.values(), strengths, strict=True):
                    stack.enter_context(module.attached_to(transformer, strength))
                yield

        return Trained(parameters, applied)

    return train

"""How each method of the study learns one source motion, and acts on the model while it samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from study_cases import StudyCase
from torch import nn

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.baselines.conv3d import conv3d_adapter
from det_core.baselines.full import FullFineTuning
from det_core.baselines.local_attention import local_attention_adapter
from det_core.baselines.lora_losses import DrawnForLoRA
from det_core.baselines.motion_inversion import MotionInversion
from det_core.bench.adapters import LORAS
from det_core.fym.classify import classify_heads
from det_core.fym.sparse import Example, RandomFrames, sparse_latents, still_examples
from det_core.fym.train import LoRAConfig, group_lora, train_lora
from det_core.guidance.guide import Plan as GuidancePlan
from det_core.guidance.losses import FEATURES, Loss
from det_core.guidance.reference import MotionReference, subject_cells
from det_core.guidance.sampling import MotionGuidance
from det_core.lora.lora import LoRA
from det_core.models.embedded.base_model import EmbeddedModel
from det_core.models.families import kept_blocks
from det_core.models.generate import generate
from det_core.training.draws import DrawnFromViews
from det_core.training.loop import TrainConfig, fit
from det_core.training.views import scaled_frames

PARAMETERS = 196_608  # of a motion adapter with the embedded model's own settings; the other forms are sized to it


class Motion:
    """One case on the embedded model for one training seed: what a training or a guidance is made of."""

    def __init__(self, model: EmbeddedModel, case: StudyCase, draw: int = 0, steps: int = 100):
        """draw: number of the training seed; steps: of a training whose row does not say otherwise."""
        self.model, self.case, self.steps, self.seed = model, case, steps, 1000 * draw + case.index
        self.source = case.sources[draw]
        self.latents = model.encode_video(self.source.pixels)
        self.cond = model.encode_prompts([case.clip.scene.caption])
        self.denoiser, self.spec = model.denoiser, model.denoiser.spec

    @property
    def generator(self) -> torch.Generator:
        """A new one from the training seed."""
        return torch.Generator().manual_seed(self.seed)

    def scaled(self, steps: int) -> int:
        """A number of training steps out of 100, for this motion's."""
        return max(1, round(steps * self.steps / 100))

    def videos(self, trained: Trained, how: Any, jobs: Sequence[tuple[str, int]]) -> list[torch.Tensor]:
        """A video (T, H, W, 3) of every (prompt, seed), with what was trained."""
        guidance = None if trained.guidance is None else trained.guidance()
        decoded_too = torch.autocast("cpu", torch.bfloat16, self.denoiser.bf16)  # as all published rows were
        with torch.no_grad(), decoded_too, trained.apply(how):
            return list(generate(self.model, None, jobs, self.latents.shape, guidance=guidance))


@dataclass(frozen=True)
class Trained:
    """parameters: how many were trained. apply: a row's `how` -> the context in which the model samples with them.
    guidance: made anew for each sampling."""

    parameters: int = 0
    apply: Callable[[Any], AbstractContextManager] = nullcontext
    guidance: Callable[[], MotionGuidance] | None = None


Train = Callable[[Motion], Trained]


def nothing(_motion: Motion) -> Trained:
    return Trained()


def guided(motion: Motion, loss: Loss = FEATURES, masked: bool = False) -> Trained:
    """The model guided by the source; masked: only where the subject passes."""
    return Trained(guidance=partial(_guidance, motion, loss, masked))


def _guidance(motion: Motion, loss: Loss, masked: bool) -> MotionGuidance:
    subject = subject_cells(motion.source.tracks, motion.latents.shape) if masked else None
    reference = MotionReference(motion.latents, motion.spec.name, subject)
    return MotionGuidance(reference, motion.model.encode_prompts([""]), GuidancePlan.for_spec(motion.spec, loss))


def beside(motion: Motion, make: Callable[[Motion], nn.Module], **changes) -> Trained:
    """A module beside every block's attention. A row's `how` is ("last" or "first", share of the blocks dropped)."""
    adapter = fitted(motion, make(motion), changes)
    return Trained(count(adapter), partial(attached, motion, adapter))


def attached(motion: Motion, adapter: nn.Module, how: tuple[str, float]) -> AbstractContextManager:
    return attach(motion.denoiser.transformer, adapter, keep=blocks_kept(motion.spec.num_blocks, *how))


def blocks_kept(num_blocks: int, dropped: str | None, share: float) -> list[int]:
    """The blocks that stay when a share of the "last" or "first" blocks is dropped, rounded as `kept_blocks` does."""
    kept = kept_blocks(num_blocks, share)
    return kept if dropped == "last" else list(range(num_blocks - len(kept), num_blocks))


def whole(motion: Motion, make: Callable[[Motion], nn.Module], **changes) -> Trained:
    """A module that installs itself, as a whole."""
    module = fitted(motion, make(motion), changes).eval()
    return Trained(count(module), lambda _how: module.attached_to(motion.denoiser.transformer))


def fitted(motion: Motion, module: nn.Module, changes: dict) -> nn.Module:
    config = config_of(motion, **changes)
    if isinstance(module, MotionAdapter):
        for kernel in module.blocks.values():
            kernel.down.requires_grad_(config.train_down)
    latents = motion.model.encode_video(scaled_frames(motion.source.pixels, motion.spec, config.scale))
    draw = DrawnFromViews(motion.denoiser, latents, motion.cond, motion.source.tracks, config)
    return fit(motion.denoiser, module, draw, config, learns_from="", shape=draw.shape).adapter


def config_of(motion: Motion, steps: int = 100, **changes) -> TrainConfig:
    fixed = {"steps": motion.scaled(steps), "seed": motion.seed, "bf16": motion.denoiser.bf16}
    return TrainConfig.for_spec(motion.spec, **fixed, **changes)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


# ------------------------------------------------------------------------------------------- the forms


def det(motion: Motion, **sizes) -> MotionAdapter:
    return MotionAdapter.create(motion.spec, **sizes, generator=motion.generator)


def lora(motion: Motion) -> LoRA:
    return LoRA(motion.denoiser.transformer, 24, motion.generator)  # 24 * 2 * 128 * 4 projections * 8 blocks


def full(motion: Motion) -> FullFineTuning:
    return FullFineTuning(motion.denoiser.transformer)


def conv3d(motion: Motion, mid_dim: int = 4) -> nn.Module:
    return conv3d_adapter(motion.spec, mid_dim, motion.generator)  # 4: 221 184 parameters, 3 would be 165 888


def local_attention(motion: Motion, window: tuple[int, int, int]) -> nn.Module:
    """With a bias for every offset in the window."""
    return local_attention_adapter(motion.spec, 48, motion.generator, window)


def motion_inversion(motion: Motion) -> MotionInversion:
    return MotionInversion(motion.denoiser.transformer, motion.spec.grid(motion.latents.shape))


def rival(motion: Motion, method: str) -> Trained:
    """A LoRA method of the benchmark, trained as long as the study's own and at the benchmark's learning rate."""
    form, transformer, usual = LORAS[method], motion.denoiser.transformer, motion.spec.family.plain_lora
    config = config_of(motion, lr=usual["lr"])
    module = LoRA(transformer, form.rank or usual["rank"], motion.generator, kinds=form.kinds)
    draw = DrawnForLoRA(motion.denoiser, motion.latents, motion.cond, config, form.loss)
    fit(motion.denoiser, module, draw, config, learns_from="", shape=motion.latents.shape)
    return Trained(count(module), lambda _how: module.requires_grad_(False).attached_to(transformer))


# ------------------------------------------------------------------------------------------- Follow-Your-Motion


class Displaced(RandomFrames):
    """Sparse frames that stand at 0, 1, 2, ... instead of at their own times."""

    def draw(self, generator: torch.Generator) -> Example:
        return replace(super().draw(generator), positions=None)


def follow_your_motion(
    motion: Motion,
    decoupled: bool = True,
    adaptive: bool = True,
    frames: int = 5,
    spacing: str = "random",
    **temporal_changes,
) -> Trained:
    """Both stages, with the settings and steps of `LoRAConfig.for_stage`; a row's `how`: (spatial, temporal) strength.

    decoupled: two groups of heads; otherwise both stages train all heads at half the rank, which is as many parameters.
    adaptive: sparse frames stand at their own times; otherwise at 0, 1, 2, ...
    frames, spacing: latent frames of 9 that a step of the temporal stage looks at, and how they lie.
    """
    denoiser, transformer, cond = motion.denoiser, motion.denoiser.transformer, motion.cond
    shared = {"seed": motion.seed, "bf16": denoiser.bf16}
    configs = {
        "spatial": LoRAConfig.for_stage(motion.spec, "spatial", **shared),
        "temporal": LoRAConfig.for_stage(motion.spec, "temporal", **shared, **temporal_changes),
    }
    configs = {stage: replace(c, steps=motion.scaled(c.steps)) for stage, c in configs.items()}
    if decoupled:
        heads = classify_heads(denoiser, motion.latents, cond, seed=motion.seed)
        loras = {group: group_lora(transformer, heads, group, config) for group, config in configs.items()}
    else:
        loras = {
            group: LoRA(transformer, max(1, c.rank // 2), motion.generator, kinds=c.kinds)
            for group, c in configs.items()
        }
    parameters = count(*loras.values())
    stills = still_examples(motion.model.encode_video, motion.source.pixels)
    train_lora(denoiser, loras["spatial"], stills, cond, configs["spatial"])
    examples = sparse_latents(motion.latents, frames, spacing) if adaptive else Displaced(motion.latents, frames)
    train_lora(denoiser, loras["temporal"], examples, cond, configs["temporal"], frozen=loras["spatial"])
    return Trained(parameters, partial(_at_strengths, transformer, list(loras.values())))


@contextmanager
def _at_strengths(transformer: nn.Module, loras: list[LoRA], strengths: tuple[float, float]):
    with ExitStack() as stack:
        for module, strength in zip(loras, strengths, strict=True):
            stack.enter_context(module.attached_to(transformer, strength))
        yield

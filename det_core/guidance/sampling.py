"""The guidance over diffusers transformers: what `sample(..., guidance=...)` takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..models.compute.memory import MARGIN, free_bytes
from ..models.compute.precision import computed_in
from ..models.denoiser import Condition, DiffusersDenoiser
from ..models.sample import ModelAt
from .cost import guidance_memory
from .guide import Guide, Plan
from .reading import AttentionReader, TokenReader, read_attention, read_tokens
from .reference import MotionReference


class MotionGuidance:
    """Moves what is sampled after the motion of a reference.

    Every sampling reads the reference anew, in the model that samples, so that it may have adapters on it.
    """

    def __init__(self, reference: MotionReference, empty: Condition, plan: Plan):
        """empty: the encoded empty prompt, batch 1."""
        self.reference, self.empty, self.plan = reference, empty, plan
        self._guide: Guide | None = None

    def step(self, x: torch.Tensor, index: int, steps: int, at: ModelAt) -> tuple[torch.Tensor, torch.Tensor]:
        """The latents (B, C, T, H, W) to take step `index` of `steps` from, and the velocity to take it with."""
        guided = self.plan.guided_steps(steps)
        if self.plan.step == 0 or index >= guided:
            return x, at.velocity(x)
        if index == 0:
            self._guide = self._looked(at, x.shape[2] - self.reference.latents.shape[2])
        x, x0 = self._guide.step(x, index, guided, DiffusersPass(at, self.plan))
        return x, at.velocity_towards(x, x0)

    def _looked(self, at: ModelAt, extra: int) -> Guide:
        """extra: frames that `sample` puts before the video's to fill a token; the source's first one stands there."""
        denoiser = at.denoiser
        self.reference.check(denoiser.spec)
        filled = [0] * max(0, extra) if extra < denoiser.spec.patch[0] else []
        frames = [*filled, *range(self.reference.latents.shape[2])]
        latents, subject = self.reference.latents[:, :, frames].to(denoiser.device), self.reference.subject
        where = None if subject is None else subject[frames].to(denoiser.device, torch.float32)
        guide = Guide(self.plan, denoiser.spec, latents, where)
        clean = ModelAt(denoiser, torch.zeros((), device=denoiser.device), self.empty, cfg=at.cfg)
        guide.look(DiffusersPass(clean, self.plan))
        return guide


class DiffusersPass:
    """`ModelPass` over a diffusers transformer."""

    def __init__(self, at: ModelAt, plan: Plan):
        self.at, self.plan = at, plan
        self.signal, self.noise = at.denoiser.level(at.t)

    def tokens(self, x: torch.Tensor, block: int, reader: TokenReader) -> Any:
        return self._read(read_tokens, x, block, reader)

    def attention(self, x: torch.Tensor, block: int, reader: AttentionReader) -> Any:
        return self._read(read_attention, x, block, reader)

    def clean(self, x: torch.Tensor) -> torch.Tensor:
        return self.at.clean(x)

    def _read(self, read: Callable, x: torch.Tensor, block: int, reader: Callable) -> Any:
        denoiser = self.at.denoiser
        with self._remembering(x, block):
            return read(
                denoiser.transformer, denoiser.spec, block, denoiser.spec.grid(x.shape),
                lambda: self.at.with_prompt(x), reader,
            )  # fmt: skip

    def _remembering(self, x: torch.Tensor, block: int) -> AbstractContextManager:
        """Blocks before `block` keep for a gradient what fits."""
        denoiser: DiffusersDenoiser = self.at.denoiser
        free = free_bytes(denoiser.device)
        offloaded = next(denoiser.transformer.parameters()).device.type == "meta"
        if free is not None and not offloaded:
            needed = guidance_memory(
                denoiser.spec, x.shape, block,
                policy="none",
                dtype=computed_in(denoiser.dtype, denoiser.bf16),
                mlp_ratio=denoiser.spec.family.mlp_ratio(denoiser.transformer, denoiser.spec),
            )  # fmt: skip
            if needed * MARGIN <= free:
                return denoiser.checkpointed("none")
        return denoiser.checkpointed("full", block)

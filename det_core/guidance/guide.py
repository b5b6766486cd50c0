"""The guidance itself: how often, how far and by which loss the latents of the first steps are moved.

It knows nothing of any sampler or layout of a model: `ModelPass` is all it asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from ..models.families import DiTSpec
from .losses import LOSSES, Grid, Loss
from .reading import AttentionReader, TokenReader

SHARE = 0.2  # of the steps, the first ones, in which latents are moved: the motion is decided there


class ModelPass(Protocol):
    """The model at one noise level: latents are x = signal * x0 + noise * eps.

    Attributes: signal, noise: numbers, or tensors that broadcast over latents.
    """

    signal: float
    noise: float

    def tokens(self, x: torch.Tensor, block: int, reader: TokenReader) -> Any:
        """What `reader` makes, in the call, of the tokens that `block` gives with the prompt alone."""

    def attention(self, x: torch.Tensor, block: int, reader: AttentionReader) -> Any:
        """What `reader` makes, in the call, of q and k in `block` with the prompt alone."""

    def clean(self, x: torch.Tensor) -> torch.Tensor:
        """The clean latents that the model predicts, classifier-free guidance included; no gradient is asked."""


@dataclass(frozen=True)
class Plan:
    """How a motion is guided.

    loss:    what is compared: one of `LOSSES`, or another.
    block:   the block that is read, of 0 to the model's last.
    updates: in all, not a step: their number is what counts, not their share of the steps.
    step:    size of an update where the latents have n elements, times sqrt(n).
    share:   of the sampling's steps, from the first, at least one.
    """

    loss: Loss
    block: int
    updates: int
    step: float
    share: float = SHARE

    @classmethod
    def for_spec(
        cls, spec: DiTSpec, loss: str | Loss = "features", *, strength: float = 1.0, block: int | None = None, **changes
    ) -> Plan:
        """The base model's own plan for a loss, by name for those of `LOSSES`. `strength` is a factor on the step,
        `block` None the model's own.

        Raises: ValueError if there is no such loss or block, or no update.
        """
        if isinstance(loss, str):
            if loss not in LOSSES:
                raise ValueError(f"motion is guided by {', '.join(LOSSES)}; there is no guidance by {loss!r}")
            loss = LOSSES[loss]
        block = spec.guide_block if block is None else block
        if not 0 <= block < spec.num_blocks:
            raise ValueError(f"there is no block {block} to guide by: this model has 0 to {spec.num_blocks - 1}")
        plan = cls(loss, block, spec.defaults.guide_updates * loss.updates, spec.defaults.guide_step * loss.step)
        plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
        if plan.updates < 1 or not 0 < plan.share <= 1:
            raise ValueError(f"guidance needs an update and a share of the steps in (0, 1], not {plan}")
        return replace(plan, step=plan.step * strength)

    @property
    def needs_gradient(self) -> bool:
        """Whether the loss is of something inside the model, so that its weights must let a gradient through."""
        return self.loss.reads != "latents"

    def guided_steps(self, steps: int) -> int:
        """How many of `steps` steps are guided."""
        return min(steps, max(1, math.ceil(self.share * steps - 1e-6)))

    def updates_before(self, index: int, guided: int) -> int:
        """Updates made before step `index` of `guided` ones: spread evenly, the first step has one."""
        return math.ceil(self.updates * index / guided)

    def step_size(self, update: int, elements: int) -> float:
        """Of one update of latents with `elements` elements a video: it falls linearly to half of the first.

        A shift by h of n elements has the norm h sqrt(n), as noise has: the rule keeps their ratio over sizes.
        """
        return self.step / math.sqrt(elements) * (1 - 0.5 * update / max(1, self.updates - 1))


class Guide:
    """One sampling under guidance; made anew for each. Its `step` is asked for the guided steps, in order."""

    def __init__(self, plan: Plan, spec: DiTSpec, source: torch.Tensor, where: torch.Tensor | None = None):
        """source: (1, C, T, H, W) clean latents of the source in the model's space, on its device.
        where: (T, H, W) weights of the loss over latent cells, such as a mask of the subject."""
        self.plan, self.grid = plan, spec.grid(source.shape)
        self.source, self.where = source.float(), where
        if where is not None and plan.loss.reads != "latents":
            self.where = token_weights(where, spec.patch, self.grid)
        self._target: Any = None
        self._start: tuple[torch.Tensor, float] | None = None  # latents and noise of the first step, see `_steadied`

    def look(self, model: ModelPass) -> None:
        """Read what the source looks like in the model: at no noise, with an empty prompt."""
        self._target = self._read(model, self.source, lambda *read: self.plan.loss.target(*read, self.grid))

    def _read(self, model: ModelPass, x: torch.Tensor, reader: Callable[..., Any]) -> Any:
        """What `reader` makes of what the loss compares; of clean latents, that is what is given."""
        if self.plan.loss.reads == "latents":
            return reader(x)
        read = model.attention if self.plan.loss.reads == "attention" else model.tokens
        return read(x, self.plan.block, reader)

    def step(self, x: torch.Tensor, index: int, guided: int, model: ModelPass) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the latents of guided step `index`; returns them and the clean latents to take the step towards.

        Raises: ValueError if the latents are not of the source's size.
        """
        if x.shape[1:] != self.source.shape[1:]:
            raise ValueError(
                f"the motion is of latents {tuple(self.source.shape[1:])} (channels, frames, height, width), but "
                f"{tuple(x.shape[1:])} are made: encode the source at the size and length of the video to be made (in "
                "ComfyUI: Fit Video)"
            )
        first, last = (self.plan.updates_before(i, guided) for i in (index, index + 1))
        moved = self._moved(x, range(first, last), model)
        x0 = model.clean(moved)
        if not self.plan.needs_gradient:
            x0 = self._steadied(moved, x0, model)
        return moved, x0

    def _moved(self, x: torch.Tensor, updates: range, model: ModelPass) -> torch.Tensor:
        """Adam on the latents, in units of their own deviation; a single update is a step along the gradient's sign."""
        if not updates:
            return x
        scale = (model.signal**2 + model.noise**2) ** 0.5
        shift = torch.zeros_like(x)
        optimizer = torch.optim.Adam([shift])
        for update in updates:
            optimizer.param_groups[0]["lr"] = self.plan.step_size(update, x[0].numel())
            gradient = self._gradient(x + scale * shift, model)
            shift.grad = _unit(gradient)
            optimizer.step()
        return x + scale * shift

    def _gradient(self, x: torch.Tensor, model: ModelPass) -> torch.Tensor:
        """Of the loss with respect to the latents, the same for each video as if it were alone."""
        # The velocity is a constant to a loss on clean latents: they move as the latents do.
        compared = x if self.plan.needs_gradient else model.clean(x)
        with torch.enable_grad():
            leaf = compared.detach().requires_grad_()

            def gradient(*read: torch.Tensor) -> torch.Tensor:
                distance = self.plan.loss.distance(*read, self._target, self.grid, self.where)
                return torch.autograd.grad(distance.sum() * _scale(read[0]), leaf)[0]

            return self._read(model, leaf, gradient)

    def _steadied(self, x: torch.Tensor, x0: torch.Tensor, model: ModelPass, off_course: float = 0.1) -> torch.Tensor:
        """FlowMotion's regularisation: what of the velocity leaves the course so far, at each place, is cut to a tenth.

        It is done where the latents are (1 - s) x0 + s eps, to which every model's can be scaled.
        """
        total = model.signal + model.noise
        z, s = x / total, model.noise / total
        if self._start is None:
            self._start = (z, s)
        start, first = self._start
        if s == first:
            return x0
        course = (z - start) / (s - first)
        velocity = (z - x0) / s
        along = (velocity * course).sum(1, keepdim=True) / course.square().sum(1, keepdim=True).clamp(min=1e-12)
        along = along * course
        return z - s * (along + off_course * (velocity - along))


def _scale(read: torch.Tensor) -> float:
    """The power of two next to the number of elements read of a video.

    A loss is a mean over them, and its gradient at one of 50 million is less than float16 can hold: by this factor it
    is near 1. `_unit` takes the factor out again; in other formats it changes no bit.
    """
    return 2.0 ** round(math.log2(read[0].numel()))


def _unit(gradient: torch.Tensor) -> torch.Tensor:
    """Each video's gradient at a root mean square of 1: Adam knows no scale, but its epsilon does."""
    return gradient / gradient.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp(min=1e-30)


def token_weights(where: torch.Tensor, patch: tuple[int, int, int], grid: Grid) -> torch.Tensor:
    """(T, H, W) weights of latent cells -> (T, places) of tokens: the largest in each patch."""
    pooled = torch.nn.functional.max_pool3d(where[None, None].float(), patch, ceil_mode=True)[0, 0]
    return pooled[: grid[0], : grid[1], : grid[2]].flatten(1)

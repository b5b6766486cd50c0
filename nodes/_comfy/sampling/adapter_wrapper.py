"""Put a motion adapter on a MODEL: an APPLY_MODEL wrapper that taps the DiT for the length of one call.

Nothing of the base model is changed between calls, so branches of one graph can carry different adapters, adapters
stack, and the base stays bit-identical. The adapter's weights are a model of their own, moved and freed by ComfyUI.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import torch
from torch import nn

from ....det_core.adapter.attach import tapped
from ....det_core.adapter.motion_adapter import MotionAdapter
from ....det_core.adapter.placement import Placement, placed
from ....det_core.models.families import DiTSpec, unwrapped
from ..loading.model_spec import model_spec
from .call import video_tokens, video_window
from .self_test import SelfTest

KEY = "det_adapter"
METER = "det_contributions"  # in transformer_options: who measures what the kernels add
APPLY_MODEL = comfy.patcher_extension.WrappersMP.APPLY_MODEL


def apply_adapter(
    patcher,
    adapter: MotionAdapter,
    keep: list[int],
    strength: float,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    placement: Placement | None = None,
    over_sampling: Callable[[float], float] | None = None,
):
    """A clone of the MODEL with `adapter` acting in the blocks `keep`, from one share of the sampling to another.

    placement: where in the picture and the video it acts; everywhere without one. over_sampling: factor on the
        strength at a share of the sampling, from 0 to 1.
    """
    spec = model_spec(patcher)
    kernels = adapter.kernels_for(spec, keep)
    clone = patcher.clone()
    if not kernels or strength == 0 or start_percent >= end_percent:
        return clone
    weights = comfy.model_patcher.CoreModelPatcher(
        nn.ModuleList(kernels.values()),
        load_device=patcher.load_device,
        offload_device=comfy.model_management.unet_offload_device(),
    )
    key = f"{KEY}:{uuid.uuid4()}"  # a key of its own: the same adapter may be applied twice
    clone.set_additional_models(key, [weights])
    when = Schedule(strength, start_percent, end_percent, over_sampling)
    wrapper = AdapterWrapper(spec, kernels, when, placement or Placement())
    clone.add_wrapper_with_key(APPLY_MODEL, key, wrapper)
    return clone


def has_adapter(patcher) -> bool:
    """Whether a motion adapter is applied to this MODEL."""
    return any(str(key).startswith(KEY) for key in patcher.wrappers.get(APPLY_MODEL, {}))


@dataclass(frozen=True)
class Schedule:
    """How strongly an adapter acts, by the share of the sampling that is done."""

    strength: float
    start: float = 0.0
    end: float = 1.0
    curve: Callable[[float], float] | None = None

    def at(self, sampling, t: torch.Tensor) -> float:
        """The strength of an evaluation at sigma `t`. sampling: the model's ModelSampling."""
        sigma = t.flatten()[0].item()
        if not sampling.percent_to_sigma(self.end) <= sigma <= sampling.percent_to_sigma(self.start):
            return 0.0
        return self.strength * (self.curve(done_at(sampling, sigma)) if self.curve else 1.0)


def done_at(sampling, sigma: float) -> float:
    """The share of the sampling, 0 to 1, at which `sigma` is reached: what `percent_to_sigma` is asked, backwards."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if sampling.percent_to_sigma(middle) > sigma else (low, middle)
    return low


class AdapterWrapper:
    """Called around every evaluation of the model; where the video's tokens are is read from each call."""

    def __init__(self, spec: DiTSpec, kernels: dict[int, nn.Module], when: Schedule, where: Placement):
        self.spec, self.kernels, self.when, self.where = spec, kernels, when, where
        self.self_test = SelfTest()

    def __call__(self, executor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs):
        model = executor.class_obj
        strength = self.when.at(model.model_sampling, t)
        if strength == 0:
            return executor(x, t, *args, **kwargs)
        # The rest of apply_model's arguments: c_concat, c_crossattn, control, transformer_options.
        options = args[3] if len(args) > 3 else kwargs.get("transformer_options", {})
        video = video_tokens(model, self.spec, x, kwargs, options)
        kernels = placed(self.kernels, self.where, video.grid, x, video_window(video, options))
        if METER in options:
            kernels = options[METER].of(kernels)
        dit = unwrapped(model.diffusion_model)
        act = tapped(dit, video.spec, kernels, lambda: video.grid, strength)
        with self.self_test.around(model, video, options, act):
            return executor(x, t, *args, **kwargs)

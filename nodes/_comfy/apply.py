"""Put a motion adapter on a MODEL: an APPLY_MODEL wrapper that taps the DiT for the length of one call.

Nothing of the base model is changed between calls, so branches of one graph can carry different adapters, adapters
stack, and the base stays bit-identical. The adapter's weights are a model of their own, moved and freed by ComfyUI.
"""

from __future__ import annotations

import uuid

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import torch
from torch import nn

from ...det_core.adapter.attach import tapped
from ...det_core.adapter.motion_adapter import MotionAdapter
from ...det_core.models.families import DiTSpec, spec_for, unwrapped
from . import cogvideox

KEY = "det_adapter"
APPLY_MODEL = comfy.patcher_extension.WrappersMP.APPLY_MODEL


def model_spec(patcher) -> DiTSpec:
    """The spec of the DiT in a MODEL.

    Raises: ValueError if it is no video DiT of a known family, or a CogVideoX that ComfyUI samples wrongly.
    """
    model = patcher.model
    try:
        spec = spec_for(model.diffusion_model)
    except ValueError:
        raise ValueError(
            f"this MODEL is a {type(model).__name__}, which motion adapters do not work on: use CogVideoX, "
            "HunyuanVideo, Wan or LTX-Video text-to-video, or the embedded model"
        ) from None
    if cogvideox.needs_correction(model):
        raise ValueError(
            "this CogVideoX comes from Load Diffusion Model, which samples it wrongly in this version of ComfyUI: "
            "load the same file with Load DiT (DeT)"
        )
    return spec


def apply_adapter(
    patcher,
    adapter: MotionAdapter,
    keep: list[int],
    strength: float,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
):
    """A clone of the MODEL with `adapter` acting in the blocks `keep`, from one share of the sampling to another."""
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
    clone.add_wrapper_with_key(APPLY_MODEL, key, AdapterWrapper(spec, kernels, strength, start_percent, end_percent))
    return clone


def has_adapter(patcher) -> bool:
    """Whether a motion adapter is applied to this MODEL."""
    return any(str(key).startswith(KEY) for key in patcher.wrappers.get(APPLY_MODEL, {}))


class AdapterWrapper:
    """Called around every evaluation of the model; the token grid is that of the call."""

    def __init__(self, spec: DiTSpec, kernels: dict[int, nn.Module], strength: float, start: float, end: float):
        self.spec, self.kernels, self.strength = spec, kernels, strength
        self.start, self.end = start, end

    def __call__(self, executor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs):
        model = executor.class_obj
        if not self._active(model.model_sampling, t):
            return executor(x, t, *args, **kwargs)
        if x.ndim != 5:
            raise ValueError(
                f"a motion adapter needs video latents (batch, channels, frames, height, width); got {tuple(x.shape)}"
            )
        grid = self.spec.grid(x.shape)
        with tapped(unwrapped(model.diffusion_model), self.spec, self.kernels, lambda: grid, self.strength):
            return executor(x, t, *args, **kwargs)

    def _active(self, sampling, t: torch.Tensor) -> bool:
        sigma = t.flatten()[0].item()
        return sampling.percent_to_sigma(self.end) <= sigma <= sampling.percent_to_sigma(self.start)

"""Which MODELs motion is learned and replayed on, and which are refused."""

from __future__ import annotations

import comfy.model_base
import comfy.model_sampling
import torch

from ....det_core.models.families import DiTSpec, spec_for
from . import cogvideox


def model_spec(patcher) -> DiTSpec:
    """The spec of the DiT in a MODEL.

    Raises: ValueError if it is no video DiT of a known family, or a CogVideoX that ComfyUI samples wrongly.
    """
    model = patcher.model
    try:
        spec = spec_for(model.diffusion_model)
    except ValueError as error:
        raise ValueError(
            f"this MODEL is a {type(model).__name__}, which motion adapters do not work on: {error}"
        ) from None
    if model.latent_format.latent_dimensions != 3 or isinstance(model, comfy.model_base.HunyuanImage21Refiner):
        raise ValueError(f"this MODEL is a {type(model).__name__}, which makes pictures: use a video model")
    if spec.prediction == "flow" and not _makes_noise_a_video(model.model_sampling):
        raise ValueError(
            f"this MODEL is a {type(model).__name__}, which does not make a video out of noise: motion adapters and "
            "LoRAs need a model that does"
        )
    if cogvideox.needs_correction(model):
        raise ValueError(
            "this CogVideoX comes from Load Diffusion Model, which samples it wrongly in this version of ComfyUI: "
            "load the same file with Load DiT (DeT)"
        )
    return spec


def _makes_noise_a_video(sampling) -> bool:
    """Whether a flow model begins with noise; some transform a video straight away."""
    begin = torch.ones(1)
    return isinstance(sampling, comfy.model_sampling.CONST) and bool(sampling.noise_scaling(begin, begin, 0 * begin))

"""The training-free method of the benchmark: guidance by the source, as the base model does it of itself."""

from __future__ import annotations

import torch

from ..guidance.guide import Plan
from ..guidance.reference import MotionReference
from ..guidance.sampling import MotionGuidance
from ..models.base_model import BaseModel
from ..models.sample import sample
from ..source import Source


def guided_video(model: BaseModel, source: Source, prompt: str, seed: int, steps: int | None = None) -> torch.Tensor:
    """A video (T, H, W, 3) of a prompt that moves as `source` does, from the noise that every method starts from."""
    spec, empty = model.denoiser.spec, model.encode_prompts([""])
    latents = model.encode_video(source.pixels)
    guidance = MotionGuidance(MotionReference(latents, spec.name), empty, Plan.for_spec(spec))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    made = sample(model.denoiser, model.encode_prompts([prompt]), empty, noise, steps=steps, guidance=guidance)
    return model.decode_video(made)

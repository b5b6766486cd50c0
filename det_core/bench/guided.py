"""The training-free methods of the benchmark: one guidance by the source, with another loss each."""

from __future__ import annotations

import torch

from ..baselines.training_free import DMT, MOFT, MOTION_CLONE
from ..guidance.guide import Plan
from ..guidance.losses import FEATURES, FLOW, LATENTS
from ..guidance.reference import MotionReference
from ..guidance.sampling import MotionGuidance
from ..models.base_model import BaseModel
from ..models.sample import sample
from ..source import Source

GUIDED = {
    "guided": FEATURES,
    "ditflow": FLOW,
    "flowmotion": LATENTS,
    "dmt": DMT,
    "moft": MOFT,
    "motionclone": MOTION_CLONE,
}


def guided_video(
    model: BaseModel, source: Source, method: str, prompt: str, seed: int, steps: int | None = None
) -> torch.Tensor:
    """A video (T, H, W, 3) of a prompt that moves as `source` does, from the noise that every method starts from."""
    spec, empty = model.denoiser.spec, model.encode_prompts([""])
    latents = model.encode_video(source.pixels)
    guidance = MotionGuidance(MotionReference(latents, spec.name), empty, Plan.for_spec(spec, GUIDED[method]))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    made = sample(model.denoiser, model.encode_prompts([prompt]), empty, noise, steps=steps, guidance=guidance)
    return model.decode_video(made)

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
    model: BaseModel,
    source: Source,
    method: str,
    prompt: str,
    seed: int,
    steps: int | None = None,
    reader: BaseModel | None = None,
) -> torch.Tensor:
    """A video (T, H, W, 3) of a prompt that moves as `source` does, from the noise that every method starts from.

    reader: the model as it reads the source, where that is given another first frame than the video.
    """
    reader = model if reader is None else reader
    spec, latents = model.denoiser.spec, model.encode_video(source.pixels)
    reference, plan = MotionReference(latents, spec.name), Plan.for_spec(spec, GUIDED[method])
    guidance = MotionGuidance(reference, reader.encode_prompts([""]), plan)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    cond, uncond = model.encode_prompts([prompt]), model.encode_prompts([""])
    made = sample(model.denoiser, cond, uncond, noise, steps=steps, guidance=guidance)
    return model.decode_video(made)

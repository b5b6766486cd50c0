"""One evaluation of a MODEL in which its motion adapters are measured."""

from __future__ import annotations

import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import torch

from ....det_core.adapter.contribution import Contributions
from ..loading.cogvideox import CHECK_KEY
from .adapter_wrapper import METER, has_adapter
from .call import with_silence
from .guidance import without_guidance


def measured_shares(model, prompt: list, latents: torch.Tensor, at_percent: float) -> dict[int, float]:
    """{block: share} for a video `latents` (1, C, T, H, W), noised as at a share of the sampling; see `Contributions`.

    Raises: ValueError if the MODEL has no motion adapter, or none that acts there.
    """
    if not has_adapter(model):
        raise ValueError("this MODEL has no motion adapter on it: connect what Apply Motion Adapter gives")
    contributions, measured = Contributions(), _bare(model)
    measured.model_options["transformer_options"][METER] = contributions
    sigma = float(model.get_model_object("model_sampling").percent_to_sigma(at_percent))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    noise, clean = (with_silence(model.model, x) for x in (noise, latents))
    comfy.sample.sample_custom(
        measured,
        noise,
        1.0,
        comfy.samplers.sampler_object("euler"),
        torch.tensor([sigma, 0.0]),
        prompt,
        prompt,
        clean,
        disable_pbar=True,
        seed=0,
    )
    if not (shares := contributions.shares()):
        raise ValueError(f"no adapter on this MODEL acts at {at_percent:g} of the sampling: look elsewhere")
    return shares


def _bare(model):
    """A clone without what looks after whole samplings: one evaluation is none."""
    clone = without_guidance(model)
    clone.remove_wrappers_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, CHECK_KEY)
    return clone

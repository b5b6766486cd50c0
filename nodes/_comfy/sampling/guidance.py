"""Guide Motion on a MODEL: the first steps of any sampler, with the latents moved in them.

A SAMPLER_SAMPLE wrapper makes the guided steps itself, Euler steps from one sigma to the next, and hands the rest to
the sampler that was chosen, from where it arrived. Only so do moved latents reach the sampler's own state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import comfy.model_management as mm
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch

from ....det_core.guidance.cost import guidance_memory
from ....det_core.guidance.guide import Guide, Plan
from ....det_core.models.families import DiTSpec, unwrapped
from ..gradients.blocks import copied
from ..gradients.weights import leave_inference_mode, own_patcher
from .guided_pass import NativePass, Sampling, scales

KEY = "det_guidance"
PREPARE = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
SAMPLE = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE


def guide_motion(
    patcher, source: torch.Tensor, empty: list, plan: Plan, spec: DiTSpec, *, where=None, checkpointing: bool = True
):
    """A clone of the MODEL whose samplings are guided by a source.

    source: (1, C, T, H, W) latents as the VAE gave them. empty: CONDITIONING of an empty prompt.
    where: (T, H, W) weights of the loss over latent cells.
    Raises: ValueError if the MODEL is guided already.
    """
    if plan.step == 0:
        return patcher.clone()
    if patcher.get_wrappers(SAMPLE, KEY):
        raise ValueError(
            "this MODEL is guided by a motion already, and each Guide Motion moves the same latents: connect the MODEL "
            "from before the other Guide Motion, or put a motion adapter on it instead"
        )
    clone = own_patcher(patcher) if plan.needs_gradient else patcher.clone()
    wrapper = GuidanceWrapper(source, empty, plan, spec, where, checkpointing)
    clone.add_wrapper_with_key(SAMPLE, KEY, wrapper)
    if plan.needs_gradient:
        clone.add_wrapper_with_key(PREPARE, KEY, wrapper.reserve)
    return clone


def without_guidance(patcher):
    """A clone of the MODEL that no source guides."""
    clone = patcher.clone()
    for kind in (SAMPLE, PREPARE):
        clone.remove_wrappers_with_key(kind, KEY)
    return clone


class GuidanceWrapper:
    """Called around the sampling of one MODEL."""

    def __init__(self, source, empty: list, plan: Plan, spec: DiTSpec, where, checkpointing: bool):
        self.source, self.empty, self.plan, self.spec, self.where = source, empty, plan, spec, where
        self.checkpointing = checkpointing

    def reserve(self, executor, model, noise_shape, *args, **kwargs):
        """Tell the core's estimate of memory, which goes by the shape, of as large a batch as the gradient is worth."""
        _check_video(noise_shape)
        needed = self._needed(model, noise_shape)
        device = model.load_device
        least = needed + model.model_size() // (1 if mm.is_device_cpu(device) else max(1, self.spec.num_blocks))
        if least > mm.get_total_memory(device):
            raise ValueError(
                f"guiding a batch of {noise_shape[0]} at this size needs about {least / 2**30:.1f} GB, guidance's "
                f"share of it is {needed / 2**30:.1f}, and {device} has {mm.get_total_memory(device) / 2**30:.1f} GB: "
                "make fewer or smaller videos at once, switch gradient checkpointing on, or guide by latents"
            )
        own = max(1, model.model.memory_required([2, *noise_shape[1:]]))
        batch = max(noise_shape[0], math.ceil(needed / own))
        return executor(model, [batch, *noise_shape[1:]], *args, **kwargs)

    def _needed(self, model, shape) -> int:
        spec, dit = self.spec, model.model.diffusion_model
        return guidance_memory(
            spec,
            torch.Size(shape),
            self.plan.block,
            policy="full" if self.checkpointing else "none",
            dtype=model.model.get_dtype_inference(),
            mlp_ratio=spec.family.mlp_ratio(unwrapped(dit), spec),
        )

    def __call__(
        self,
        executor,
        guider,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        *rest,
        **named,
    ):
        _check_video(noise.shape)
        latent_image = torch.zeros_like(noise) if latent_image is None else latent_image
        sampling, steps = guider.inner_model.model_sampling, len(sigmas) - 1
        guided = self._guided(sampling, sigmas)
        run = Sampling(guider, sigmas, extra_args, noise, latent_image, denoise_mask)
        with torch.inference_mode(False), torch.no_grad():
            x = run.start(executor.class_obj.max_denoise(guider, sigmas))
            for index, x0, x_next in self._steps(run, x, guided):
                if callback is not None:
                    callback(index, x0, x, steps)
                x = x_next
        if guided == steps:
            return sampling.inverse_noise_scaling(sigmas[-1], x)
        # The noise that with the latents in hand gives x at this sigma: the sampler starts from them.
        signal, scale = scales(sampling, sigmas[guided])
        later = None if callback is None else partial(_later, callback, guided, steps)
        noise = (x - signal * latent_image) / scale
        return executor(guider, sigmas[guided:], extra_args, later, noise, latent_image, denoise_mask, *rest, **named)

    def _guided(self, sampling, sigmas: torch.Tensor) -> int:
        """How many steps start above the noise level at which guidance ends."""
        end = sampling.percent_to_sigma(self.plan.share) * (1 + 1e-4)
        guided = int((sigmas[:-1] > end).sum())
        if not guided:
            raise ValueError(
                f"no step of this sampling is noisy enough to be guided (the first {self.plan.share:.0%} of the noise "
                "levels are): set denoise to 1, or raise end_percent of Guide Motion"
            )
        return guided

    def _steps(self, run: Sampling, x: torch.Tensor, guided: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(index, predicted clean latents, latents of the next sigma) of every guided step."""
        model = run.guider.inner_model
        source = model.process_latent_in(self.source.clone().to(x.device, torch.float32))
        guide = Guide(self.plan, self.spec, source, None if self.where is None else self.where.clone().to(x.device))
        if self.plan.needs_gradient:
            for patcher in (run.guider.model_patcher, *run.guider.loaded_models):
                leave_inference_mode(patcher.model)
        last = self.plan.block if self.checkpointing else 0
        with _refused_gradient(self.plan):
            guide.look(
                NativePass(
                    run,
                    self.spec,
                    last,
                    _clean_sigma(model, self.spec),
                    _encoded(model, self.empty, source, run.mask is not None),
                )
            )
        for index in range(guided):
            mm.throw_exception_if_processing_interrupted()
            sigma, below = run.sigmas[index : index + 2]
            with _refused_gradient(self.plan):
                x, x0 = guide.step(x, index, guided, NativePass(run, self.spec, last, sigma))
            x_next = x + (x - x0) / sigma * (below - sigma)
            yield index, x0, x_next
            x = x_next


def _check_video(shape) -> None:
    """Raises ValueError where these are not latents of a video alone: the core packs several streams into one row."""
    if len(shape) != 5:
        raise ValueError(
            "this model samples sound with its video, which cannot be guided: give the sampler an empty video latent "
            "without the sound's (LTX-2), or train a motion adapter instead (MiniMax H3, which has no video alone)"
        )


def _clean_sigma(model, spec: DiTSpec) -> torch.Tensor:
    """The sigma of latents without noise: v-prediction has a lowest one."""
    least = model.model_sampling.sigmas[0].clone()
    return least if spec.prediction == "v" else torch.zeros_like(least)


def _encoded(model, conditioning: list, source: torch.Tensor, masked: bool) -> dict:
    """One CONDITIONING processed for latents of the source's size; `masked` models get a mask that gives nothing."""
    conds = {"positive": copied(comfy.sampler_helpers.convert_cond(conditioning))}
    still = torch.zeros_like(source)  # no picture of the source may reach the model beside its latents
    mask = torch.ones_like(source) if masked else None
    more = {"latent_image": still, "denoise_mask": mask, "latent_shapes": [source.shape]}
    return comfy.samplers.process_conds(model, source, conds, source.device, **more)["positive"][0]


@contextmanager
def _refused_gradient(plan: Plan) -> Iterator[None]:
    """Weights that torch takes no gradient through are refused in a sentence."""
    try:
        yield
    except RuntimeError as error:
        if plan.needs_gradient and any(word in str(error) for word in ("require grad", "nference tensor", "autograd")):
            raise ValueError(
                f"no gradient can be had through this base model as it is stored or patched, and guidance by "
                f"{plan.loss.name} needs one: guide by latents, or load its 16-bit or fp8 file "
                f"({str(error).splitlines()[0][:120]})"
            ) from error
        raise


def _later(callback: Callable, done: int, total: int, step: int, x0, x, _total: int) -> None:
    """The callback of a sampler that was given only the steps after the first `done` of `total`."""
    callback(done + step, x0, x, total)

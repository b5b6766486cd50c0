"""Guide Motion on a MODEL: the first steps of any sampler, with the latents moved in them.

A SAMPLER_SAMPLE wrapper makes the guided steps itself, Euler steps from one sigma to the next, and hands the rest to
the sampler that was chosen, from where it arrived. Only so do moved latents reach the sampler's own state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch

from ....det_core.guidance.cost import guidance_memory
from ....det_core.guidance.guide import Guide, Plan
from ....det_core.guidance.reading import AttentionReader, Read, TokenReader, left_early, read_tokens
from ....det_core.models.compute.checkpointing import block_paths, checkpointed
from ....det_core.models.families import DiTSpec, unwrapped
from ....det_core.models.families.spec import video_slice
from ....det_core.models.overriding import overridden
from ..gradients.blocks import copied, protected
from ..gradients.quantised import differentiable_forwards
from ..gradients.weights import leave_inference_mode, own_patcher

KEY = "det_guidance"
PREPARE = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
SAMPLE = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE


def guide_motion(
    patcher, source: torch.Tensor, empty: list, plan: Plan, spec: DiTSpec, *, where=None, checkpointing: bool = True
):
    """A clone of the MODEL whose samplings are guided by a source.

    source: (1, C, T, H, W) latents as the VAE gave them. empty: CONDITIONING of an empty prompt.
    where: (T, H, W) weights of the loss over latent cells.
    """
    if plan.step == 0:
        return patcher.clone()
    clone = own_patcher(patcher) if plan.needs_gradient else patcher.clone()
    wrapper = GuidanceWrapper(source, empty, plan, spec, where, checkpointing)
    clone.add_wrapper_with_key(SAMPLE, KEY, wrapper)
    if plan.needs_gradient:
        clone.add_wrapper_with_key(PREPARE, KEY, wrapper.reserve)
    return clone


class GuidanceWrapper:
    """Called around the sampling of one MODEL."""

    def __init__(self, source, empty: list, plan: Plan, spec: DiTSpec, where, checkpointing: bool):
        self.source, self.empty, self.plan, self.spec, self.where = source, empty, plan, spec, where
        self.checkpointing = checkpointing

    def reserve(self, executor, model, noise_shape, *args, **kwargs):
        """Tell the core's estimate of memory, which goes by the shape, of as large a batch as the gradient is worth."""
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
        if noise.ndim != 5:
            raise ValueError(f"motion guidance needs video latents (B, C, T, H, W); got {tuple(noise.shape)}")
        latent_image = torch.zeros_like(noise) if latent_image is None else latent_image
        sampling, steps = guider.inner_model.model_sampling, len(sigmas) - 1
        guided = self._guided(sampling, sigmas)
        run = _Run(guider, sigmas, extra_args, noise, latent_image, denoise_mask)
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

    def _steps(self, run: _Run, x: torch.Tensor, guided: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
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


class _Run:
    """One sampling: what the core hands to a sampler, as tensors that autograd takes."""

    def __init__(self, guider, sigmas, extra_args: dict, noise, latent_image, denoise_mask):
        self.guider, self.extra_args = guider, extra_args
        with torch.inference_mode(False):
            self.sigmas, self.noise, self.latent_image, self.mask = (
                copied(value) for value in (sigmas, noise, latent_image, denoise_mask)
            )
        self.inpaint = comfy.samplers.KSamplerX0Inpaint(guider, sigmas)
        self.inpaint.noise, self.inpaint.latent_image = self.noise, self.latent_image

    def start(self, max_denoise: bool) -> torch.Tensor:
        """The latents at the first sigma."""
        sampling = self.guider.inner_model.model_sampling
        return sampling.noise_scaling(self.sigmas[0], self.noise, self.latent_image, max_denoise)

    def clean(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The clean latents that the guider predicts, given places as they are: what any sampler asks."""
        arguments = {name: value for name, value in self.extra_args.items() if name != "denoise_mask"}
        return self.inpaint(x, sigma.expand(len(x)), denoise_mask=self.mask, **arguments)

    def seen(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The latents as `clean` shows them to the model: given places at the noise they are held at."""
        if self.mask is None:
            return x
        held = self.guider.inner_model.scale_latent_inpaint(
            x=x, sigma=sigma, noise=self.noise, latent_image=self.latent_image, denoise_mask=self.mask
        )
        return x * self.mask + held * (1 - self.mask)

    def positive(self, x: torch.Tensor, sigma: torch.Tensor) -> dict:
        """The first prompt that holds at this sigma for the whole picture."""
        conds = self.guider.conds.get("positive") or next(iter(self.guider.conds.values()))
        for cond in conds:
            part = comfy.samplers.get_area_and_mult(cond, x, sigma)
            if part is not None and part.input_x.shape == x.shape:
                return cond
        raise ValueError("motion guidance needs a prompt for the whole picture, and this one is for areas only")


class NativePass:
    """`ModelPass` over a loaded comfy BaseModel.

    cond: one processed condition; None is the run's own prompt. recomputed: so many blocks are computed again during
    backward.
    """

    def __init__(self, run: _Run, spec: DiTSpec, recomputed: int, sigma: torch.Tensor, cond: dict | None = None):
        self.run, self.spec, self.recomputed, self.sigma, self.cond = run, spec, recomputed, sigma, cond
        self.model = run.guider.inner_model
        self.signal, self.noise = scales(self.model.model_sampling, sigma)

    def clean(self, x: torch.Tensor) -> torch.Tensor:
        return self.run.clean(x, self.sigma)

    def tokens(self, x: torch.Tensor, block: int, reader: TokenReader) -> Any:
        dit, grid = unwrapped(self.model.diffusion_model), self.spec.grid(x.shape)
        with self._differentiable(block):
            return read_tokens(dit, self.spec, block, grid, partial(self._call, x), reader)

    def attention(self, x: torch.Tensor, block: int, reader: AttentionReader) -> Any:
        module = unwrapped(self.model.diffusion_model).get_submodule(self.spec.taps[block].input)
        watch = _FirstAttention(module.forward, self.spec, self.spec.grid(x.shape), reader)
        with self._differentiable(block):
            return left_early(partial(self._call, x, optimized_attention_override=watch), [(module, watch.enter)])

    def _call(self, x: torch.Tensor, **more) -> None:
        """The model on the condition alone, as `comfy.samplers` calls it."""
        sigma = self.sigma.expand(len(x))
        if self.cond is None:
            cond, x = self.run.positive(x, sigma), self.run.seen(x, sigma)
        else:
            cond = self.cond
        part = comfy.samplers.get_area_and_mult(cond, x, sigma)
        arguments = copied(comfy.samplers.cond_cat([part.conditioning]))
        options = comfy.model_patcher.create_model_options_clone(self.run.extra_args["model_options"])
        options = {**self.model.current_patcher.apply_hooks(hooks=part.hooks), **options["transformer_options"]}
        options.update(more, cond_or_uncond=[0], uuids=[part.uuid], sigmas=sigma)
        if self.cond is not None:  # models that look up the step to come find one
            options["sample_sigmas"] = torch.stack([self.sigma, torch.zeros_like(self.sigma)])
        self.model.apply_model(x, sigma, transformer_options=options, **arguments)

    @contextmanager
    def _differentiable(self, block: int) -> Iterator[None]:
        dit = unwrapped(self.model.diffusion_model)
        in_place = block + 1 if self.spec.family.in_place else 0
        blocks = [dit.get_submodule(path) for path in block_paths(self.spec)[:in_place]]
        pairs = [(part, partial(protected, part.forward)) for part in blocks]
        training, mm.in_training = mm.in_training, True
        try:
            with overridden(differentiable_forwards(dit)), overridden(pairs):
                with checkpointed(dit, self.spec, "full", self.recomputed):
                    yield
        finally:
            mm.in_training = training


class _FirstAttention:
    """Reads q and k where a block's attention is first called after its tap: an `optimized_attention_override`."""

    def __init__(self, forward: Callable, spec: DiTSpec, grid: tuple[int, int, int], reader: AttentionReader):
        self.forward, self.spec, self.grid, self.reader = forward, spec, grid, reader
        self.entered = False

    def enter(self, *args, **kwargs):
        self.entered = True
        return self.forward(*args, **kwargs)

    def __call__(self, attention: Callable, q: torch.Tensor, k: torch.Tensor, *args, **kwargs):
        if not self.entered:
            return attention(q, k, *args, **kwargs)
        if not kwargs.get("skip_reshape"):
            heads = kwargs["heads"] if "heads" in kwargs else args[1]  # args: v, heads, ...
            q, k = (value.unflatten(-1, (heads, -1)).transpose(1, 2) for value in (q, k))
        video = video_slice(self.spec.attention, q.shape[2], self.grid, "guidance")
        raise Read(self.reader(q[:, :, video], k[:, :, video]))


def scales(sampling, sigma: torch.Tensor) -> tuple[float, float]:
    """(signal, noise): latents at `sigma` are signal * x0 + noise * eps, as this sampling scales them."""
    zero, one = torch.zeros(1, 1, 1, 1, 1, device=sigma.device), torch.ones(1, 1, 1, 1, 1, device=sigma.device)
    return sampling.noise_scaling(sigma, zero, one).item(), sampling.noise_scaling(sigma, one, zero).item()


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

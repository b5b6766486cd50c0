"""One sampling of the core's, and the passes of its model that guidance reads and takes a gradient through."""

from __future__ import annotations

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

from ....det_core.guidance.reading import AttentionReader, Read, TokenReader, left_early, read_tokens
from ....det_core.models.compute.checkpointing import block_paths, checkpointed
from ....det_core.models.families import DiTSpec, unwrapped
from ....det_core.models.families.spec import video_slice
from ....det_core.models.overriding import overridden
from ..gradients.blocks import copied, protected
from ..gradients.quantised import differentiable_forwards


class Sampling:
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

    def __init__(self, run: Sampling, spec: DiTSpec, recomputed: int, sigma: torch.Tensor, cond: dict | None = None):
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

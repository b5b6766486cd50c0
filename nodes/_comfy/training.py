"""A MODEL made ready to train an adapter through, and put back as it was whatever happens.

ComfyUI runs nodes in inference mode and hands out weights that autograd refuses; some of its models also work in
place or with fused kernels that have no gradient. Everything that is needed against that is here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import comfy.model_management as mm
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from ...det_core.models.families import DiTSpec
from ...det_core.models.overriding import overridden
from .denoiser import ComfyDenoiser
from .loading import load_for_autograd, own_patcher
from .quantised import differentiable_forwards

BLOCK_LISTS = ("blocks", "double_blocks", "single_blocks", "transformer_blocks")
_NORMS = {F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm}


@contextmanager
def trainable(
    model, positive: list, latents: torch.Tensor, spec: DiTSpec, memory: int, checkpointing: bool
) -> Iterator[tuple[ComfyDenoiser, torch.Tensor]]:
    """Inside: autograd works, other models are out of VRAM, the MODEL is loaded. Gives (denoiser, latents in model
    space).

    Args:
        model:    the MODEL; not changed. positive: CONDITIONING of the caption. latents: (1, C, T, H, W) as the VAE
        gave.
        memory:   bytes that a training step needs beside the weights; ComfyUI keeps them free.
        checkpointing: compute each block again during backward instead of keeping what is inside.
    """
    with torch.inference_mode():  # the mode in which they were loaded
        mm.unload_all_models()  # VAE and text encoder of earlier nodes
    mm.soft_empty_cache()
    with torch.inference_mode(False), ExitStack() as stack:
        patcher = own_patcher(model)
        stack.callback(lambda: patcher.detach(unpatch_all=False))
        z = latents.clone()
        conds = {"positive": _copied(comfy.sampler_helpers.convert_cond(positive))}
        options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
        comfy.sampler_helpers.prepare_model_patcher(patcher, conds, options)
        extra, extra_memory = comfy.sampler_helpers.get_additional_models(conds, patcher.model_dtype())
        extra += patcher.get_nested_additional_models()
        stack.callback(lambda: comfy.sampler_helpers.cleanup_models(conds, extra))
        load_for_autograd([patcher, *extra], memory + extra_memory)
        real = patcher.model
        stack.callback(patcher.cleanup)
        patcher.pre_run()
        x0 = real.process_latent_in(z.to(patcher.load_device, torch.float32))
        conds = comfy.samplers.process_conds(real, x0, conds, patcher.load_device, latent_image=x0)
        options["transformer_options"] = {**patcher.apply_hooks(hooks=None), **options["transformer_options"]}
        dit = real.diffusion_model
        stack.enter_context(overridden(differentiable_forwards(dit)))
        stack.enter_context(overridden(_block_overrides(dit, spec, checkpointing)))
        stack.callback(setattr, mm, "in_training", mm.in_training)
        mm.in_training = True
        yield ComfyDenoiser(patcher, real, spec, conds["positive"][0], options), x0


def _copied(value):
    """Conditioning with every tensor in it cloned out of inference mode."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(v) for v in value)
    return value


class _CopyBeforeNorm(TorchFunctionMode):
    """Norms save their input for backward; a block that then adds to that input in place would spoil it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _NORMS and isinstance(args[0], torch.Tensor) and args[0].requires_grad:
            args = (args[0].clone(), *args[1:])
        return func(*args, **(kwargs or {}))


def _block_overrides(dit: nn.Module, spec: DiTSpec, checkpointing: bool) -> list[tuple[nn.Module, Callable]]:
    in_place = spec.family.in_place
    if not (in_place or checkpointing):
        return []
    blocks = [block for name in BLOCK_LISTS for block in getattr(dit, name, ())]
    return [(block, _block_forward(block.forward, in_place, checkpointing)) for block in blocks]


def _block_forward(forward: Callable, in_place: bool, checkpointing: bool) -> Callable:
    def protected(*args, **kwargs):
        with _CopyBeforeNorm():
            return forward(*map(_token_copy, args), **{k: _token_copy(v) for k, v in kwargs.items()})

    body = protected if in_place else forward
    if not checkpointing:
        return body

    def checkpointed(*args, **kwargs):
        if not torch.is_grad_enabled():
            return body(*args, **kwargs)
        return checkpoint(body, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return checkpointed


def _token_copy(value):
    return value.clone() if isinstance(value, torch.Tensor) and value.ndim == 3 and value.is_floating_point() else value

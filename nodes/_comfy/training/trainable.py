"""A MODEL made ready to train an adapter through, and put back as it was whatever happens.

ComfyUI runs nodes in inference mode and hands out weights that autograd refuses; some of its models also work in
place or with fused kernels that have no gradient. What is needed against that is in `gradients`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import comfy.model_management as mm
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import nn

from ....det_core.models.families import DiTSpec
from ....det_core.models.overriding import Forward, overridden
from ..gradients.blocks import copied, protected
from ..gradients.quantised import differentiable_forwards
from ..gradients.weights import load_for_autograd, own_patcher
from ..sampling.call import stream_shapes
from .conditions import Conditions, beside_the_text, check_conditioning, check_single_frames
from .denoiser import ComfyDenoiser

INJECTORS = ("audio_injector", "music_injector")


@contextmanager
def trainable(
    model,
    positive: list,
    latents: torch.Tensor,
    spec: DiTSpec,
    memory: int,
    *,
    mask: torch.Tensor | None = None,
    single_frames: bool = False,
    empty: list | None = None,
    guidance: float = 1.0,
) -> Iterator[tuple[ComfyDenoiser, torch.Tensor]]:
    """Inside: autograd works, other models are out of VRAM, the MODEL is loaded. Gives (denoiser, latents in model
    space).

    Args:
        model:    the MODEL; not changed. positive: CONDITIONING of the caption. latents: (1, C, T, H, W) as the VAE
        gave.
        memory:   bytes that a training step needs beside the weights; ComfyUI keeps them free.
        mask: the LATENT's noise mask; where it is 0 the source is given and not learned.
        single_frames: frames on their own will be looked at, too.
        empty, guidance: CONDITIONING of an empty prompt, and the guidance that is in the model's answer; see the
        denoiser.
    Raises: ValueError if the conditioning does not fit the source or the model, or is of several captions.
    """
    check_conditioning(model.model, beside_the_text(positive), latents.shape[2], mask is not None)
    with torch.inference_mode():  # the mode in which they were loaded
        mm.unload_all_models()  # VAE and text encoder of earlier nodes
    mm.soft_empty_cache()
    with torch.inference_mode(False), ExitStack() as stack:
        patcher = own_patcher(model)
        stack.callback(lambda: patcher.detach(unpatch_all=False))
        z = latents.clone()
        given = {"positive": positive} | ({} if empty is None else {"empty": empty})
        conds = {name: copied(comfy.sampler_helpers.convert_cond(one)) for name, one in given.items()}
        options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
        comfy.sampler_helpers.prepare_model_patcher(patcher, conds, options)
        extra, extra_memory = comfy.sampler_helpers.get_additional_models(conds, patcher.model_dtype())
        extra += patcher.get_nested_additional_models()
        stack.callback(lambda: comfy.sampler_helpers.cleanup_models(conds, extra))
        load = partial(load_for_autograd, [patcher, *extra], memory + extra_memory)
        load()
        real = patcher.model
        stack.callback(patcher.cleanup)
        patcher.pre_run()
        x0 = real.process_latent_in(z.to(patcher.load_device, torch.float32))
        about = _conditions(real, conds, x0, mask)
        options["transformer_options"] = {**patcher.apply_hooks(hooks=None), **options["transformer_options"]}
        dit, of_empty = real.diffusion_model, {"empty": about.get("empty"), "guidance": guidance}
        denoiser = ComfyDenoiser(patcher, real, spec, about["positive"], options, load=load, **of_empty)
        if single_frames:
            check_single_frames(denoiser)
        stack.enter_context(overridden(differentiable_forwards(dit)))
        stack.enter_context(overridden(_protected_parts(dit, spec)))
        stack.callback(setattr, mm, "in_training", mm.in_training)
        mm.in_training = True
        yield denoiser, x0


def _conditions(real, conds: dict, x0: torch.Tensor, noise_mask: torch.Tensor | None) -> dict[str, Conditions]:
    """The conditions of the clip `x0`, by name; what the latents' noise mask, or the picture of image-to-video, gives
    of it is not learned."""
    mask, blend = None, noise_mask is not None
    if blend:
        mask = comfy.sampler_helpers.prepare_mask(copied(noise_mask), x0.shape, x0.device)[:, :1]
    elif (known := conds["positive"][0].get("concat_mask")) is not None and known.ndim == 5:
        frames = (known > 0.5).float().amax(dim=(1, 3, 4)).reshape(1, 1, -1, 1, 1)  # 0: the whole frame is given
        mask = frames.to(x0).expand(1, 1, *x0.shape[2:])
    # Nothing of the source may reach the model as a picture that the conditioning does not hold.
    conds = comfy.samplers.process_conds(
        real,
        x0,
        conds,
        x0.device,
        latent_image=torch.zeros_like(x0),
        denoise_mask=mask if blend else None,
        seed=0,
        latent_shapes=stream_shapes(real, x0.shape),
    )
    return {name: Conditions(real, cond[0], x0, mask, blend) for name, cond in conds.items()}


def _protected_parts(dit: nn.Module, spec: DiTSpec) -> list[tuple[nn.Module, Forward]]:
    """The forwards of what works in place: some families' blocks; and of Wan with sound (S2V, WanDancer) what adds the
    sound to the token stream between blocks."""
    lists = [native.name for _, native in spec.family.stacks] if spec.family.in_place else []
    blocks = [block for name in lists for block in getattr(dit, name, ())]
    injectors = [part for name in INJECTORS if (part := getattr(dit, name, None)) is not None]
    return [(part, partial(protected, part.forward)) for part in (*blocks, *injectors)]

"""CogVideoX made right on ComfyUI's own model class.

ComfyUI 0.33 runs CogVideoX, but plain text-to-video differs from the model's own pipeline in three tables: the sampling
(its input is not scaled to unit variance), the rotary positions of version 1.0 (stretched, where the pipeline takes a
resized crop of the 60x90 grid), and for the 2B class the sine-cosine positions and the noise schedule. `correct`
replaces those tables on a freshly loaded model, and only where they are still wrong: a ComfyUI that has them right is
left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_sampling
import torch

from ....det_core.models.families.cogvideox_tables import AddSincos, CropRotary
from ..display.notice import Notice

SNR_SHIFT_2B = 3.0  # `snr_shift_scale` of the 2B scheduler
# Zero terminal SNR means an infinite first sigma S. Any finite S = alpha^-1/2 makes two errors in the first Euler step,
# to a sigma s, here in units of the latents: a share s/S of the picture is missing, an error of 1/S once the noise of
# size s is divided out; and float32 rounds values of size S, an error of u S / s with u = 2^-24. They are equal at
# alpha = u / s. Ten steps go to s = 18, fifty to s = 108; the value for ten serves all counts that are used.
TERMINAL_ALPHA = 2.0**-24 / 18
CHECK_KEY = "det_sampling_check"
LARGEST_RESULT = 2.0  # root mean square of latents; samplers that fit gave 0.7 to 1.1, others 3 to 100
LARGEST_LAST_SIGMA = 2.0  # the last noise level that is looked at; below 0.5 on schedules that fit


@dataclass(frozen=True)
class Variant:
    """What the weights do not say about themselves.

    positions: "rotary" (5B), "sincos" (2B), "learned" (5B image-to-video 1.0: a learned table and rotary positions).
    snr_shift: the scheduler's `snr_shift_scale`.
    """

    positions: str = "rotary"
    snr_shift: float = 1.0


def variant_of(state_dict: dict[str, torch.Tensor], config: dict | None = None) -> Variant:
    """Tell the variants apart by the diffusers config where there is one, else by the weights' shapes.

    state_dict: native keys. config: the transformer's `config.json`, as far as it is known.
    """
    config = config or {}
    heads = state_dict["blocks.0.q.weight"].shape[0] // 64
    rotary = config.get("use_rotary_positional_embeddings", heads != 30)
    if not rotary:
        return Variant("sincos", SNR_SHIFT_2B if heads == 30 else config.get("snr_shift_scale", 1.0))
    if "patch_embed.pos_embedding" in state_dict:
        return Variant("learned", 1.0)
    return Variant("rotary", 1.0)


class CogVideoXSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
    """v-prediction on CogVideoX's own schedule: zero terminal SNR, the SNR of the 2B class shifted first."""

    def __init__(self, model_config, snr_shift: float = 1.0):
        super().__init__(model_config, zsnr=False)
        # Shifting the SNR by s turns alpha into alpha / (s + (1 - s) alpha), that is sigma into sqrt(s) sigma.
        root = (1 + self.sigmas.double().square() * snr_shift).rsqrt()  # sqrt(alpha)
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])  # shifted to end at zero, scaled to begin as before
        alpha = root.square().clamp(min=TERMINAL_ALPHA)
        self.set_sigmas(((1 - alpha) / alpha).sqrt())


def _check_learned_size(module, args) -> None:
    """Forward pre-hook of a patch embedding with a learned table: it has a row for every cell of one size."""
    frames, height, width = args[1].shape[1], args[1].shape[3], args[1].shape[4]
    most = (module.sample_frames - 1) // module.temporal_compression_ratio + 1
    if (height, width) != (module.sample_height, module.sample_width) or frames > most:
        raise ValueError(
            f"this CogVideoX (image-to-video 1.0) has learned positions for {module.sample_width * 8}x"
            f"{module.sample_height * 8} pixels and at most {module.sample_frames} frames; got {width * 8}x"
            f"{height * 8} and {frames} latent frames (of {most}): use that size, or CogVideoX-5B or 1.5"
        )


def _add_learned_text_rows(module, args, output: torch.Tensor) -> torch.Tensor:
    """Forward hook: the table's first rows belong to the text tokens; ComfyUI adds those of the video only."""
    length = min(args[0].shape[1], module.max_text_seq_length)
    rows = module.pos_embedding[:, :length].to(output)
    return torch.cat([output[:, :length] + rows, output[:, length:]], dim=1)


def needs_correction(model) -> bool:
    """True for a CogVideoX whose sampling is still ComfyUI 0.33's."""
    wrong = getattr(comfy.model_sampling, "V_PREDICTION_DDPM", ())
    named = any(kind.__name__ == "CogVideoX" for kind in type(model).__mro__)
    return named and bool(wrong) and isinstance(model.model_sampling, wrong)


def _same_rotary(dit, table: CropRotary) -> bool:
    ours, own = table(10, 12, 2), dit._get_rotary_emb(10, 12, 2, device=torch.device("cpu"))
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, own, strict=True))


def correct(model, variant: Variant) -> list[str]:
    """Replace the wrong tables of a freshly loaded CogVideoX `model` (a comfy BaseModel); returns what was replaced."""
    dit, done = model.diffusion_model, []
    if needs_correction(model) or variant.snr_shift != 1.0:
        model.model_sampling = CogVideoXSampling(model.model_config, variant.snr_shift)
        done.append("sampling" if variant.snr_shift == 1.0 else f"sampling (SNR shift {variant.snr_shift:g})")
    if variant.positions == "sincos":
        dit.use_rotary_positional_embeddings = False
        dit.patch_embed.use_positional_embeddings = dit.patch_embed.use_learned_positional_embeddings = False
        dit.patch_embed.register_forward_hook(AddSincos())
        return [*done, "sine-cosine positions"]
    if variant.positions == "learned":
        dit.use_rotary_positional_embeddings = True
        dit.patch_embed.register_forward_pre_hook(_check_learned_size)
        dit.patch_embed.register_forward_hook(_add_learned_text_rows)
        done.append("rotary positions beside the learned table")
    table = CropRotary(dit.attention_head_dim, dit.patch_size)
    if dit.patch_size_t is None and not _same_rotary(dit, table):
        dit._get_rotary_emb = table
        done.append("rotary positions")
    return done


class SamplingCheck:
    """Around every sampling of a corrected CogVideoX, under `CHECK_KEY`: says so if sampler or schedule do not fit it.

    The first noise level of zero terminal SNR is some ten thousand times the next ones: a sampler that corrects its
    first step by a difference of two predictions multiplies their difference by that, and a schedule that is even in
    noise levels never comes to the low ones.
    """

    def __call__(self, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        if sigmas[-1] > 0:  # it hands its noise on to another sampling
            return result
        model = executor.class_obj.model_patcher.model
        size = model.process_latent_in(result).float().square().mean().sqrt().item()
        last = sigmas[-2].item() if len(sigmas) > 1 else 0.0
        if size < LARGEST_RESULT and last < LARGEST_LAST_SIGMA:  # false for NaN, too
            return result
        name = getattr(getattr(sampler, "sampler_function", sampler), "__name__", "sampler").removeprefix("sample_")
        Notice.of_this_node().say(
            f"this result is not what the model can do: its latents are {size:.3g} in size (a video's are about 1), "
            f"the last noise level was {last:.3g}. On CogVideoX and the embedded model the samplers heun, dpm_2 and "
            f"dpm_2_ancestral and the scheduler linear_quadratic do not fit (this was {name}): use euler, dpmpp_2m or "
            "ddim with simple, sgm_uniform or normal"
        )
        return result

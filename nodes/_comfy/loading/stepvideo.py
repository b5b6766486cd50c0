"""Step-Video-T2V as an ordinary MODEL. ComfyUI does not know it, so its description for the core's machinery is here.

The module is det_core's, on ComfyUI's operations. Its time runs from noise (0) to data (1) and its velocity points to
the data; a sampler counts noise and points away from the data. The time is turned in `process_timestep`, the sign and
the order of axes around the module, so that the nodes that replace a model's sampling (ModelSamplingSD3) work as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

from ....det_core.models.stepvideo.transformer import StepVideoTransformer, published_sizes
from .own_config import patcher_of

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class StepVideoLatents(comfy.latent_formats.LatentFormat):
    """64 channels as the codec gives them. Time is uneven, 17 frames to 3, so there is no temporal ratio."""

    latent_channels = 64
    latent_dimensions = 3
    spacial_downscale_ratio = 16


class NativeStepVideo(StepVideoTransformer):
    """The transformer as ComfyUI calls one: latents (B, C, T, H, W), a velocity that points to the noise."""

    layout = "native"

    def __init__(self, *, image_model: str, dtype: torch.dtype, device: Any, operations: Any, **sizes: Any):
        super().__init__(**sizes, operations=operations, attention=optimized_attention, dtype=dtype, device=device)
        self.dtype = dtype
        if dtype in FP8:  # norms, biases and tables are small and lose most in 8 bits
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2 or name.endswith("scale_shift_table"):
                    parameter.data = parameter.data.to(torch.bfloat16)

    def forward(self, x, timestep, context, clip_context=None, transformer_options=None, **kwargs):
        options = {} if transformer_options is None else transformer_options
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timestep, context, clip_context, options, **kwargs)

    def _forward(
        self, x, timestep, context, clip_context, transformer_options, attention_mask=None, positions=None, **_unused
    ):
        velocity = super().forward(
            x.transpose(1, 2),
            timestep,
            context,
            clip_context,
            attention_mask,
            positions=positions,
            transformer_options=transformer_options,
        )
        return -velocity.transpose(1, 2)


class StepVideo(comfy.model_base.BaseModel):
    def __init__(self, config, device=None):
        super().__init__(config, comfy.model_base.ModelType.FLOW, device=device, unet_model=NativeStepVideo)

    def process_timestep(self, timestep, **_unused):
        return 1 - timestep / self.model_sampling.multiplier

    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        clip = kwargs.get("clip_context")
        if clip is None:
            raise ValueError(
                "this conditioning is not of Step-Video's text encoders: encode the prompt with the CLIP of Load "
                "Step-Video Text Encoders (DeT), or load a conditioning that was saved from it"
            )
        # CONDCrossAttn would repeat a shorter text to the length of a longer one.
        out["c_crossattn"] = comfy.conds.CONDRegular(kwargs["cross_attn"])
        out["clip_context"] = comfy.conds.CONDRegular(clip)
        return out


class StepVideoConfig(comfy.supported_models_base.BASE):
    unet_extra_config: dict = {}
    sampling_settings = {"shift": 13.0, "multiplier": 1000}
    latent_format = StepVideoLatents
    supported_inference_dtypes = [torch.bfloat16, torch.float32]
    # As the core's Wan has it (dim / 2222 with 4 cells a token), for one cell a token.
    memory_usage_factor = 11.0

    def get_model(self, state_dict, prefix="", device=None):
        return StepVideo(self, device=device)


def build(state_dict: dict[str, torch.Tensor], options: Mapping[str, Any], *, disable_dynamic: bool = False):
    """A ModelPatcher over these weights, which are consumed: `comfy.sd.load_diffusion_model_state_dict` for this model.

    Raises: ValueError if the weights are incomplete or of the image-to-video model.
    """
    state_dict, _ = comfy.utils.convert_old_quants(state_dict, "")
    sizes = published_sizes(state_dict)
    config = StepVideoConfig({"image_model": "stepvideo", **sizes})
    config.latent_format.latent_channels = sizes["in_channels"]
    return patcher_of(config, state_dict, options, disable_dynamic=disable_dynamic)

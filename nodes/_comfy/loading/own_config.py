"""A ModelPatcher for a model that ComfyUI does not know, or takes for another, from its own description of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.supported_models_base
import comfy.utils
import torch


def patcher_of(
    config: comfy.supported_models_base.BASE,
    state_dict: dict[str, torch.Tensor],
    options: Mapping[str, Any],
    *,
    disable_dynamic: bool = False,
):
    """`comfy.sd.load_diffusion_model_state_dict` for a known `config`; `state_dict` has native keys and is consumed."""
    config.quant_config = comfy.utils.detect_layer_quantization(state_dict, "")
    load_device = mm.get_torch_device()
    dtypes = config.supported_inference_dtypes
    stored = options.get("dtype")
    if stored is None:
        stored = mm.unet_dtype(
            model_params=comfy.utils.calculate_parameters(state_dict),
            supported_dtypes=dtypes,
            weight_dtype=None if config.quant_config else comfy.utils.weight_dtype(state_dict),
        )
    cast = mm.unet_manual_cast(None if config.quant_config else stored, load_device, dtypes)
    config.set_inference_dtype(stored, cast, device=load_device)
    config.optimizations["fp8"] = options.get("fp8_optimizations", False)
    model = config.get_model(state_dict)
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=load_device, offload_device=mm.unet_offload_device())
    model.load_model_weights(state_dict, "", assign=patcher.is_dynamic())
    return patcher

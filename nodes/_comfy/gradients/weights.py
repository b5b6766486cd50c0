"""A MODEL's weights on the device in a form that autograd accepts.

ComfyUI runs nodes in inference mode, so the weights that it loads are tensors that autograd refuses to keep. They are
loaded in that mode here as well, or ComfyUI could not move them later; then the plain ones are replaced by equal
ordinary tensors. Quantised weights stay as they are: see `quantised`.
"""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management as mm
import torch
from comfy.quant_ops import QuantizedTensor
from torch import nn


def own_patcher(model):
    """A clone to train through. Under dynamic VRAM the weights in use come and go, so it is loaded anew."""
    with torch.inference_mode():
        if model.is_dynamic():
            return model.clone(disable_dynamic=True, force_deepcopy=True)
        return model.clone()


def load_for_autograd(patchers: Sequence, memory: int = 0) -> None:
    """Load MODELs with `memory` bytes left free beside them, and make their weights fit for autograd."""
    with torch.inference_mode():
        mm.load_models_gpu(list(patchers), memory_required=memory, minimum_memory_required=memory)
    with torch.inference_mode(False):
        for patcher in patchers:
            leave_inference_mode(patcher.model)


def leave_inference_mode(module: nn.Module) -> None:
    """Replace plain inference tensors among weights and buffers by equal ordinary ones, one at a time."""
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            if _refused(value):
                part._parameters[name] = nn.Parameter(value.clone(), requires_grad=False)
        for name, value in list(part._buffers.items()):
            if _refused(value):
                part._buffers[name] = value.clone()


def _refused(value: torch.Tensor | None) -> bool:
    return value is not None and not isinstance(value, QuantizedTensor) and value.is_inference()

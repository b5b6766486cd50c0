"""Gradients through layers whose weights ComfyUI keeps quantised (int8, fp8, mxfp8, nvfp4, and their rotated forms), or
which the pack ComfyUI-GGUF has loaded from a GGUF file.

A layer's forward is its own, the very kernels that sampling runs, without a gradient; its backward is a product with
the weight as it acts: dequantised, with the LoRAs that are on it, one layer's at a time. The rounding of activations
counts as the identity. The weights stay wrapped and untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import nn


def quantised_layers(model: nn.Module) -> list[nn.Module]:
    """The linear layers whose weight is wrapped."""
    return [
        part for part in model.modules() if _is_wrapped(getattr(part, "weight", None)) and hasattr(part, "in_features")
    ]


def _is_wrapped(weight) -> bool:
    """ComfyUI-GGUF's tensors say their `tensor_type`; they cannot be told otherwise without the pack."""
    return isinstance(weight, QuantizedTensor) or hasattr(weight, "tensor_type")


def differentiable_forwards(model: nn.Module) -> list[tuple[nn.Module, Callable]]:
    """For `attach.overridden`: every quantised layer with a forward that has a gradient with regard to its input."""
    return [(layer, partial(_forward, layer, layer.forward)) for layer in quantised_layers(model)]


def _forward(layer: nn.Module, own: Callable, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        return _ThroughQuantised.apply(x, layer, partial(own, *args, **kwargs) if args or kwargs else own)
    return own(x, *args, **kwargs)


class _ThroughQuantised(torch.autograd.Function):
    """y = own(x); dL/dx = dL/dy W, W being the layer's weight as it acts. Keeps nothing but the layer."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: nn.Module, own: Callable) -> torch.Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return own(x.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor):
        with _whole_weight(ctx.layer, grad) as weight:
            back = grad @ weight.to(grad.dtype)
        smoothing = getattr(ctx.layer, "pre_quant_scale", None)
        if smoothing is not None:
            back = back * smoothing.to(back)
        return back.to(ctx.dtype), None, None


@contextmanager
def _whole_weight(layer: nn.Module, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """A layer's weight as it acts, on the device and in the format of `like`, for as long as it is needed."""
    where = {"dtype": like.dtype, "device": like.device, "bias_dtype": like.dtype}
    if hasattr(layer, "cast_bias_weight"):  # ComfyUI-GGUF's layers do it themselves
        yield layer.cast_bias_weight(**where)[0]
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, None, **where, offloadable=True)
    try:
        yield weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)

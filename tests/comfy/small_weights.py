"""Random weights of a model of any class of ComfyUI, built and loaded by its own code, and quantised."""

from __future__ import annotations

import json

import torch


def randomly(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def gradient_through(layer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient of a layer's input, that of its output); its output is the one without a gradient, to the bit."""
    x = randomly(2, 5, layer.in_features).requires_grad_()
    grad = randomly(2, 5, layer.out_features, seed=1)
    with torch.no_grad():
        plain = layer(x.detach())
    out = layer(x)
    assert torch.equal(out, plain)
    out.backward(grad)
    return x.grad, grad


def fill(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter and buffer random, of a size at which signals keep theirs."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if "inv_freq" in name:
            value = 10000.0 ** -(torch.arange(tensor.numel()) / tensor.numel()).reshape(tensor.shape)
        elif name.endswith("adaln_t_table"):
            value = 0.3 * noise.cumsum(0)
        elif tensor.ndim > 1:
            value = noise * tensor[0].numel() ** -0.5
        else:
            value = noise * 0.1 + (1.0 if "norm" in name and name.endswith(("weight", "scale")) else 0.0)
        tensor.data = value.to(tensor.dtype)


def build(config_class: str, unet: dict, seed: int = 0, dtype: torch.dtype = torch.float32):
    """A ModelPatcher over a small random model of `comfy.supported_models.<config_class>`."""
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, config_class)({**unet, "disable_unet_model_creation": False})
    config.unet_config.pop("disable_unet_model_creation")
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "")
    fill(model.diffusion_model, seed)
    model.eval().requires_grad_(False)
    return comfy.model_patcher.CoreModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())


def loaded(state_dict: dict, unet: dict, **options):
    """A ModelPatcher from weights in memory, as core's own loader makes it."""
    import comfy.sd

    metadata = {"config": json.dumps({"transformer": {k: v for k, v in unet.items() if k != "image_model"}})}
    return comfy.sd.load_diffusion_model_state_dict(state_dict, model_options=options, metadata=metadata)


# Name -> (format in the file, layout of comfy_kitchen, how its layout quantises, what the file says beside the format).
_ROTATED = {"convrot": True, "convrot_groupsize": 16}
FORMATS = {
    "int8": ("int8_tensorwise", "TensorWiseINT8Layout", {"scale": "recalculate"}, {}),
    "int8 by row": ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True}, {}),
    "int8 ConvRot": ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True, **_ROTATED}, _ROTATED),
    "scaled fp8": ("float8_e4m3fn", "TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, {}),
    "scaled fp8, full products": (
        "float8_e4m3fn",
        "TensorCoreFP8E4M3Layout",
        {"scale": "recalculate"},
        {"full_precision_matrix_mult": True},
    ),
    "scaled fp8 e5m2": ("float8_e5m2", "TensorCoreFP8E5M2Layout", {"scale": "recalculate"}, {}),
    "mxfp8": ("mxfp8", "TensorCoreMXFP8Layout", {}, {}),
    "nvfp4": ("nvfp4", "TensorCoreNVFP4Layout", {}, {}),
    "ConvRot w4a4": (
        "convrot_w4a4",
        "TensorCoreConvRotW4A4Layout",
        {"convrot_groupsize": 16},
        {"convrot_groupsize": 16},
    ),
    "w4a8": (
        "asym_w4a8_int8",
        "AsymW4A8Int8Layout",
        {"group_size": 16, "convrot_groupsize": 16},
        {"group_size": 16, "convrot_groupsize": 16},
    ),
}


def quantised_state_dict(state_dict: dict, form: str) -> dict:
    """The matrices of the blocks quantised as files of the format `form` (of FORMATS) hold them; the rest unchanged."""
    from comfy.quant_ops import QuantizedTensor

    name, layout, how, also = FORMATS[form]
    marker = torch.tensor(list(json.dumps({"format": name, **also}).encode()), dtype=torch.uint8)
    out = {}
    for key, value in state_dict.items():
        inside = (
            key.endswith(".weight")
            and "blocks." in key
            and "refiner" not in key
            and "connector" not in key
            and "adaln" not in key
        )
        least = 64 if "w4a" in name else 32 if name == "mxfp8" else 16
        if not inside or value.ndim != 2 or any(size % least for size in value.shape):
            out[key] = value
            continue
        wrapped = QuantizedTensor.from_float(value, layout, **how)
        tensors = wrapped.state_dict(key)
        if name in ("mxfp8", "nvfp4"):
            tensors[f"{key}_scale"] = tensors[f"{key}_scale"].view(torch.uint8)
        out |= tensors
        out[f"{key.removesuffix('weight')}comfy_quant"] = marker
    return out

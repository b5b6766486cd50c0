"""Load a video DiT from disk as an ordinary MODEL: native or diffusers key names, one file or a folder of shards."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from pickle import UnpicklingError

import comfy.model_detection
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from safetensors import SafetensorError

from ....det_core.files import shards
from ....det_core.models.families import native_weights
from ....det_core.models.families.cogvideox import COGVIDEOX
from ....det_core.models.families.stepvideo import STEP_VIDEO
from . import cogvideox, stepvideo
from .own_config import patcher_of

logger = logging.getLogger(__name__)

WEIGHT_DTYPES = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def load_dit(path: str | Path, weight_dtype: str = "default", disable_dynamic: bool = False):
    """A ModelPatcher over the DiT at `path`, with what ComfyUI gets wrong about it corrected.

    Raises: ValueError if the weights are of no video DiT that this pack knows.
    """
    path = Path(path)
    state_dict, config, metadata = read_dit(path)
    patcher = build_dit(
        state_dict,
        config,
        WEIGHT_DTYPES[weight_dtype],
        metadata=metadata,
        name=path.name,
        disable_dynamic=disable_dynamic,
    )
    # ComfyUI makes further copies (other devices, training) by loading again; they get the same corrections.
    patcher.cached_patcher_init = (load_dit, (str(path), weight_dtype))
    return patcher


def build_dit(
    state_dict: dict[str, torch.Tensor],
    config: dict,
    model_options: dict,
    *,
    metadata: dict | None = None,
    name: str,
    disable_dynamic: bool = False,
    model_config: type[comfy.supported_models.CogVideoX_T2V] | None = None,
):
    """A ModelPatcher from weights in memory; `state_dict` has diffusers or native keys and is consumed.

    model_config: ComfyUI's description of the model, where ComfyUI would take it for another.
    """
    try:
        family, state_dict = native_weights(state_dict)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; for other models use the node Load Diffusion Model") from error
    if family is STEP_VIDEO:
        try:
            return stepvideo.build(dict(state_dict), model_options, disable_dynamic=disable_dynamic)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    variant = None
    if family is COGVIDEOX:
        variant = cogvideox.variant_of(state_dict, config)
        if variant.positions == "sincos":
            state_dict.pop("patch_embed.pos_embedding", None)  # computed for every size, not stored for one
    if model_config is None:
        patcher = comfy.sd.load_diffusion_model_state_dict(
            state_dict, model_options=dict(model_options), metadata=metadata, disable_dynamic=disable_dynamic
        )
    else:
        config = model_config(comfy.model_detection.detect_unet_config(state_dict, ""))
        patcher = patcher_of(config, state_dict, model_options, disable_dynamic=disable_dynamic)
    if patcher is None:
        raise ValueError(
            f"{name}: this ComfyUI does not know the model although its keys look like {family.title}: update "
            "ComfyUI to 0.33 or newer"
        )
    corrected = cogvideox.correct(patcher.model, variant) if variant else []
    if corrected:
        logger.info("%s: CogVideoX made right for text-to-video: %s", name, ", ".join(corrected))
        outer = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
        patcher.add_wrapper_with_key(outer, cogvideox.CHECK_KEY, cogvideox.SamplingCheck())
    return patcher


def read_dit(path: Path) -> tuple[dict[str, torch.Tensor], dict, dict | None]:
    """Weights, diffusers configuration (empty if there is none) and file metadata of a file or a diffusers folder."""
    if path.is_file():
        state_dict, metadata = _read(path)
        return _without_prefix(state_dict), {}, metadata
    state_dict: dict[str, torch.Tensor] = {}
    for shard in shards(path):
        state_dict.update(_read(shard)[0])
    config = _json(path / "config.json")
    scheduler = _json(path.parent / "scheduler" / "scheduler_config.json")
    if "snr_shift_scale" in scheduler:
        config["snr_shift_scale"] = scheduler["snr_shift_scale"]
    return state_dict, config, None


def _read(file: Path) -> tuple[dict[str, torch.Tensor], dict | None]:
    """Weights and metadata of a file. Raises: ValueError with the file's name if it is damaged."""
    try:
        return comfy.utils.load_torch_file(str(file), return_metadata=True)
    except (SafetensorError, UnpicklingError, ValueError, RuntimeError, OSError, EOFError) as error:
        size = file.stat().st_size if file.is_file() else 0
        what = "is empty" if not size else f"({size:,} bytes) cannot be read: {str(error).splitlines()[0]}"
        raise ValueError(f"{file.name} {what}; copy or download it again") from None


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _without_prefix(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in ("model.diffusion_model.", "diffusion_model."):
        inside = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        if inside:
            return inside
    return state_dict

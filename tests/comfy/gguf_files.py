"""Small GGUF files of random weights, as city96's ComfyUI-GGUF reads them, and that pack imported from its folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from environment import comfyui_path

# Bytes of a block of weights, how many it has, and where its half-precision factors stand (as in llama.cpp).
BLOCKS = {"Q4_K": (144, 256, (0, 2)), "Q5_K": (176, 256, (0, 2)), "Q6_K": (210, 256, (208,))}


def gguf_pack():
    """city96's pack from COMFYUI_GGUF, or from ComfyUI's custom_nodes; without it the test is skipped, and says so."""
    folder = Path(os.environ.get("COMFYUI_GGUF", comfyui_path() / "custom_nodes" / "ComfyUI-GGUF")).expanduser()
    if not (folder / "ops.py").is_file():
        pytest.skip(f"NO ComfyUI-GGUF AT {folder}: set COMFYUI_GGUF; training through GGUF files was NOT tested")
    if "gguf_pack" not in sys.modules:
        pytest.importorskip("gguf", reason="NO PACKAGE gguf: training through GGUF files was NOT tested")
        spec = importlib.util.spec_from_file_location(
            "gguf_pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["gguf_pack"] = module
        spec.loader.exec_module(module)
    return sys.modules["gguf_pack"]


def write_gguf(path: Path, state_dict: dict, arch: str, form: str) -> None:
    """The matrices of the blocks in the type `form` (Q8_0, Q4_0, ... or one of BLOCKS), everything else in 32 bits."""
    import gguf

    kind = gguf.GGMLQuantizationType[form]
    writer = gguf.GGUFWriter(str(path), arch)
    for number, (key, value) in enumerate(state_dict.items()):
        data = value.detach().float().numpy()
        if "blocks." in key and key.endswith("weight") and data.ndim == 2 and data.shape[1] % 256 == 0:
            raw = _random_blocks(data, form, number) if form in BLOCKS else gguf.quants.quantize(data, kind)
            writer.add_tensor(key, raw, raw_dtype=kind)
            continue
        if data.ndim > 4:  # more than the format has
            writer.add_array(f"comfy.gguf.orig_shape.{key}", [int(size) for size in data.shape])
            data = data.reshape(data.shape[0], -1)
        writer.add_tensor(key, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _random_blocks(like: np.ndarray, form: str, seed: int) -> np.ndarray:
    """Blocks of a type that the library reads and does not write: random numbers, with factors that make the weights
    about as large as those of `like`."""
    import gguf

    size, weights, factors = BLOCKS[form]
    rows, columns = like.shape
    blocks = np.random.default_rng(seed).integers(0, 256, (rows * columns // weights, size), dtype=np.uint8)
    scale = 1.0
    for _ in range(2):  # the second time at the right size
        for start in factors:
            blocks[:, start : start + 2] = np.frombuffer(np.float16(scale / 512).tobytes(), np.uint8)
        whole = gguf.quants.dequantize(blocks.reshape(rows, -1), gguf.GGMLQuantizationType[form])
        scale *= float(like.std() / whole.std())
    return blocks.reshape(rows, -1)

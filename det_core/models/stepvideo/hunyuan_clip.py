"""The Hunyuan CLIP, Step-Video's second text encoder: a BERT of 24 layers, the same that HunyuanDiT uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch

HEAD_WIDTH = 64


def read(path: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors in its published file, without what is unused of it. A pickle, opened weights-only.

    Raises: ValueError if these are not its weights, or not all of the file.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}; download it again") from None
    parts = ("bert.embeddings.", "bert.encoder.")
    weights = {key: tensor for key, tensor in stored.items() if key.startswith(parts) and "position_ids" not in key}
    if "bert.encoder.layer.0.intermediate.dense.weight" not in weights:
        raise ValueError(f"{path.name} is not the Hunyuan CLIP: take the folder hunyuan_clip of Step-Video-T2V")
    return weights


def sizes(weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The fields of a BERT configuration that these weights have, read from their shapes; a head has 64 channels."""
    layers = {int(key.split(".")[3]) for key in weights if key.startswith("bert.encoder.layer.")}
    vocabulary, hidden = weights["bert.embeddings.word_embeddings.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_attention_heads": hidden // HEAD_WIDTH,
        "num_hidden_layers": 1 + max(layers),
        "intermediate_size": weights["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": weights["bert.embeddings.position_embeddings.weight"].shape[0],
    }

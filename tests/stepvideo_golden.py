"""Small random Step-Video models, and the golden file of what they give: `python tests/stepvideo_golden.py` writes it.

The file was written once the modules met vectors of the reference code, to hold them there. Weights are drawn from
NumPy's RandomState, whose numbers are the same everywhere and for ever, so that only inputs and outputs are stored.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from det_core.models.stepvideo.step_llm import StepLLM
from det_core.models.stepvideo.transformer import StepVideoTransformer
from det_core.models.stepvideo.vae import StepVideoVAE

FOLDER = Path(__file__).parent / "golden"
FILE = FOLDER / "stepvideo.safetensors"
SHAPES = FOLDER / "stepvideo_shapes.json"

TRANSFORMER = {"num_heads": 3, "head_width": 16, "num_layers": 3, "in_channels": 4, "caption_channels": (24, 16)}
VAE = {
    "latent_channels": 2,
    "base": 32,
    "encoder_widths": (32, 32, 64, 32),
    "decoder_widths": (32, 32, 64, 32),
    "blocks": 1,
}
STEP_LLM = {"dim": 48, "heads": 6, "groups": 2, "layers": 2, "ffn": 200, "vocabulary": 40}


def with_weights(module: nn.Module, seed: int) -> nn.Module:
    """`module` with random weights of about the scale that training leaves, the same on every machine."""
    random = np.random.RandomState(seed)
    for name, parameter in sorted(module.named_parameters()):
        values = torch.from_numpy(random.standard_normal(tuple(parameter.shape))).float()
        if "scale_shift_table" in name:
            values = 0.3 * values
        elif name.endswith("bias"):
            values = 0.1 * values
        elif parameter.ndim == 1:
            values = 1 + 0.2 * values
        elif "embeddings" not in name:
            values = values / parameter[0].numel() ** 0.5
        parameter.data.copy_(values)
    return module.eval().requires_grad_(False)


def transformer(seed: int = 1) -> StepVideoTransformer:
    return with_weights(StepVideoTransformer(**TRANSFORMER), seed)


def vae() -> StepVideoVAE:
    return with_weights(StepVideoVAE(**VAE), 2)


def step_llm() -> StepLLM:
    return with_weights(StepLLM(**STEP_LLM), 3)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def transformer_inputs() -> tuple[torch.Tensor, ...]:
    """Two samples of 3 x 2 x 4 cells with 3 and 5 tokens of Step-LLM behind 4 of CLIP, in the order of `forward`."""
    mask = torch.tensor([[1] * 7 + [0] * 2, [1] * 9])
    return noise(11, 2, 3, 4, 2, 4), torch.tensor([0.25, 0.9]), noise(12, 2, 5, 24), noise(13, 2, 4, 16), mask


def pixels() -> torch.Tensor:
    return noise(21, 1, 3, 34, 16, 32).tanh()


def latents() -> torch.Tensor:
    return noise(22, 1, 2, 6, 1, 2)


def tokens() -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(31).randint(3, 40, (2, 12)))


def published_shapes(part: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of "transformer", "vae" or "step_llm" as published."""
    table = json.loads(SHAPES.read_text())
    entries = next(entries for title, entries in table.items() if title.startswith(part))
    return {name.format(i): tuple(shape) for name, shape in entries.items() for i in range(48 if "{}" in name else 1)}


def computed() -> dict[str, torch.Tensor]:
    with torch.no_grad():
        codec = vae()
        return {
            "transformer": transformer()(*transformer_inputs()),
            "moments": codec.moments(pixels()),
            "pixels": codec.decode(latents()),
            "step_llm": step_llm()(tokens()),
        }


def golden() -> dict[str, torch.Tensor]:
    return load_file(FILE)


if __name__ == "__main__":
    save_file({name: tensor.contiguous() for name, tensor in computed().items()}, FILE)

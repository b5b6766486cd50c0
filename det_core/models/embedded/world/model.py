"""Embedded model 2, the world's: model 1's architecture with more latent channels and words, and a first frame.

Its latents have 24 channels: model 1's 16 components and the 8 that explain most of what those leave of the world. The
transformer reads 48: the noisy latents and, CogVideoX-I2V's way, the first frame's, which stand in the first latent
frame with zeros behind it, or are all zeros where no first frame is given.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel
from einops import rearrange

from ..codec import PATCH, PatchCodec
from ..corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS
from ..model import TinyModel, build_transformer
from ..text import VOCABULARY, WIDTH, WordEncoder
from .scene import KINDS, MOST_OBJECTS

WEIGHTS = Path(__file__).with_name("weights.safetensors")
CHANNELS = 24


class WorldWords(WordEncoder):
    """Model 1's words and two more; marks for the first, second and third object and for the background."""

    words = (*COLOURS, *KINDS, *BACKGROUND_COLOURS, *PATTERNS)

    def role_after(self, word: str, role: int) -> int:
        if word == "on":
            return MOST_OBJECTS
        return min(role + 1, MOST_OBJECTS - 1) if word == "and" and role < MOST_OBJECTS else role

    @classmethod
    def extending(cls, model: WordEncoder, generator: torch.Generator) -> WorldWords:
        """The same vectors for the words and marks that `model` has; the new ones are orthogonal to all of them."""
        rows = dict(zip((*VOCABULARY, 0, MOST_OBJECTS), model.table, strict=True))
        names = (*cls.words, *range(MOST_OBJECTS + 1))
        drawn = torch.randn(WIDTH, len(names) - len(rows), generator=generator)
        basis, _ = torch.linalg.qr(torch.cat([model.table.T, drawn], 1))
        new = iter(basis.T[len(rows) :] * WIDTH**0.5)
        return cls(torch.stack([rows[name] if name in rows else next(new) for name in names]))


def extended_codec(codec: PatchCodec, frames: torch.Tensor) -> PatchCodec:
    """`codec` with more components up to 24: the leading ones of what it leaves of `frames` (N, 64, 64, 3)."""
    patches = rearrange(frames, "n (h p) (w q) c -> (n h w) (p q c)", p=PATCH, q=PATCH).double() - codec.mean
    basis = codec.basis.double()
    known = patches @ basis.T
    rest = patches - known @ basis
    variance, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
    more = CHANNELS - len(basis)
    added = vectors[:, -more:].flip(-1).T
    unit = (codec.scale * known.pow(2).mean(0).sqrt().sqrt()).median()  # scales are unit / sqrt(deviation)
    scale = unit * variance[-more:].flip(-1).pow(-0.25)
    return PatchCodec(codec.mean, torch.cat([codec.basis, added.float()]), torch.cat([codec.scale, scale.float()]))


def build_world_transformer() -> CogVideoXTransformer3DModel:
    """The architecture with fresh random weights."""
    return build_transformer(in_channels=2 * CHANNELS, out_channels=CHANNELS)


def extended_model(tiny: TinyModel, frames: torch.Tensor, generator: torch.Generator) -> TinyModel:
    """Model 1 as the world's training finds it: same answers on its own prompts, as new channels begin at zero."""
    transformer = build_world_transformer()
    state = transformer.state_dict()
    for name, value in tiny.transformer.state_dict().items():
        if state[name].shape == value.shape:
            state[name] = value
        else:  # the projections of the latents, from and to the width
            wider = torch.zeros_like(state[name])
            wider[tuple(slice(size) for size in value.shape)] = value
            state[name] = wider
    transformer.load_state_dict(state)
    return TinyModel(transformer, extended_codec(tiny.codec, frames), WorldWords.extending(tiny.text, generator))


def load_world(path: Path | str = WEIGHTS) -> TinyModel:
    """The shipped model, or one trained by `python -m det_core.models.embedded.world.train`."""
    from safetensors.torch import load_file

    return TinyModel.from_tensors(load_file(path), WorldWords)


def first_frame_channels(first: torch.Tensor | None, latents: torch.Tensor) -> torch.Tensor:
    """The channels that give the first frame (B, 24, 1, h, w), or None for none: (B, 24, T, h, w) like `latents`."""
    given = torch.zeros_like(latents)
    if first is not None:
        given[:, :, :1] = first
    return given

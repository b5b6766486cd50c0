"""The embedded DiT as a `BaseModel`, and how its videos are measured: by reading them, not by a learned metric."""

from __future__ import annotations

import re

import torch

from ...tracking.tracks import Tracks
from ..compute.precision import Compute
from ..denoiser import Condition, DiffusersDenoiser
from .corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS, SHAPES, SIZE, Scene
from .model import TinyModel, build_scheduler
from .reader import Reading, read_clip


class EmbeddedModel:
    """See `BaseModel`. Videos are 9 frames of 64x64 pixels; one latent frame is one video frame."""

    name = "embedded"
    at_once = 4

    def __init__(self, compute: Compute | None = None, tiny: TinyModel | None = None):
        """compute: in float32 on the CPU, unless said otherwise; its weights are float32 everywhere."""
        self.tiny = TinyModel.load() if tiny is None else tiny
        device, bf16 = (compute.device, compute.bf16) if compute else (torch.device("cpu"), False)
        self.denoiser = DiffusersDenoiser(self.tiny.transformer.to(device), build_scheduler(), bf16=bf16)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        return {"encoder_hidden_states": self.tiny.text.encode(prompts).to(self.denoiser.device)}

    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        return self.tiny.codec.encode(frames[None]).to(self.denoiser.device)

    def decode_video(self, latents: torch.Tensor) -> torch.Tensor:
        return self.tiny.codec.decode(latents.float().cpu())[0]


def scene_of(prompt: str) -> Scene | None:
    """The scene a prompt names in the corpus's words ("a green star on a teal striped background"), or None."""
    colours, shapes, backgrounds, patterns = (
        "|".join(words) for words in (COLOURS, SHAPES, BACKGROUND_COLOURS, PATTERNS)
    )
    match = re.search(rf"\b({colours}) ({shapes}) on an? ({backgrounds}) ({patterns})\b", prompt.lower())
    return Scene(*match.groups()) if match else None


def sprite_path(reading: Reading) -> Tracks:
    """The sprite's centre as one track; frames without a sprite are invisible and hold its last (or first) position.

    Raises: ValueError if no frame shows a sprite.
    """
    seen = reading.seen
    if not seen.any():
        raise ValueError("no sprite is seen in any frame")
    order = torch.arange(len(seen))
    last_seen = torch.where(seen, order, -1).cummax(0).values
    last_seen[last_seen < 0] = order[seen][0]
    return Tracks((reading.centres[last_seen] / SIZE)[None].float(), seen[None], "sprite")


def sprite_tracks(reading: Reading, queries: torch.Tensor) -> Tracks:
    """Tracks of points that move rigidly with the sprite: `queries` (N, 2) in [0, 1] at the first frame."""
    path = sprite_path(reading)
    moved = queries[:, None] + (path.points - path.points[:, :1])
    return Tracks(moved, path.visible.expand(len(queries), -1), "sprite")


def consistency(reading: Reading) -> float:
    """Share of consecutive frame pairs with the same reading (sprite colour and shape, background), and a sprite."""
    per_frame = list(zip(reading.colours, reading.shapes, reading.backgrounds, strict=True))
    pairs = list(zip(per_frame, per_frame[1:], strict=False))
    return sum(a == b and a[0] != "" for a, b in pairs) / max(1, len(pairs))


__all__ = ["EmbeddedModel", "consistency", "read_clip", "scene_of", "sprite_path", "sprite_tracks"]

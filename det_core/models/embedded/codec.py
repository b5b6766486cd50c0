"""The embedded DiT's codec: a fixed linear autoencoder, principal components of 8x8-pixel patches.

Convention: latents are (B, 16, T, H/8, W/8) in the model's own space (about unit variance); one latent frame is one
    video
    frame. There is nothing to train: `fit` computes the components once and they are stored beside the model's weights.
"""

from __future__ import annotations

import torch
from einops import rearrange

PATCH = 8
CHANNELS = 16


class PatchCodec:
    """Encode by projecting each patch on the leading components, decode by the transpose; both are exact inverses on
    the components' span. Components are scaled by the square root of their deviation, so that faint detail is
    neither lost under the noise of diffusion nor blown up to the strength of the colours."""

    def __init__(self, mean: torch.Tensor, basis: torch.Tensor, scale: torch.Tensor):
        """mean: (192,), basis: (16, 192) orthonormal rows, scale: (16,) factor from component to latent."""
        self.mean, self.basis, self.scale = mean, basis, scale

    @classmethod
    def fit(cls, frames: torch.Tensor) -> PatchCodec:
        """Principal components of all patches of `frames` (N, H, W, 3) in [0, 1]."""
        patches = rearrange(frames, "n (h p) (w q) c -> (n h w) (p q c)", p=PATCH, q=PATCH).double()
        mean = patches.mean(0)
        centred = patches - mean
        variance, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        basis = vectors[:, -CHANNELS:].flip(-1).T
        basis = basis * basis.sum(1, keepdim=True).sign()  # eigenvectors have no sign of their own: fix it
        deviation = variance[-CHANNELS:].flip(-1).sqrt()
        scale = deviation.rsqrt()
        scale = scale / ((deviation * scale) ** 2).mean().sqrt()
        return cls(mean.float(), basis.float(), scale.float())

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, 3) in [0, 1] -> latents (B, 16, T, H/8, W/8). H and W must be multiples of 8."""
        patches = rearrange(frames, "b t (h p) (w q) c -> b t h w (p q c)", p=PATCH, q=PATCH)
        latents = ((patches - self.mean.to(patches)) @ self.basis.to(patches).T) * self.scale.to(patches)
        return rearrange(latents, "b t h w c -> b c t h w")

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, 16, T, h, w) -> frames (B, T, 8h, 8w, 3), clamped to [0, 1]."""
        components = rearrange(latents, "b c t h w -> b t h w c") / self.scale.to(latents)
        patches = components @ self.basis.to(latents) + self.mean.to(latents)
        return rearrange(patches, "b t h w (p q c) -> b t (h p) (w q) c", p=PATCH, q=PATCH, c=3).clamp(0, 1)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean, "basis": self.basis, "scale": self.scale}

"""The video codec of Step-Video-T2V, version 2: chunks of 17 frames to 3 latent frames, 16x16 pixels to a cell.

Convention: pixels are (B, 3, frames, H, W) in [-1, 1], latents (B, 64, T, H / 16, W / 16) without scale or mean.
    Chunks are coded each by itself. In a chunk, latent frame j is of frame 8 j and of those before it: j = 0, 1, 2.
    Names and shapes of the parameters are those of the published file, but for `file_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...media.frame_map import FrameMap
from .tiles import tiled
from .vae_blocks import CausalConv3d, PadDown2d, frame_norm, middle, residual_blocks, upsampling

FRAMES = FrameMap((), (1, 8, 8))
CHUNK, LATENT_CHUNK, CELL = 17, 3, 16  # pixel frames, latent frames, pixels on each side of a cell
CONV_OUT, CONV_OUT_IN_FILE = "decoder.conv_out.conv.", "decoder.conv_out."


def latent_frames(frames: int) -> int:
    """Latent frames of a video of 17 k frames, or of a picture. Raises ValueError for other lengths."""
    return 1 if frames == 1 else FRAMES.latent_frames(frames)


def pixel_frames(latent_frames: int) -> int:
    """Frames that so many latent frames decode to. Raises ValueError unless there are 1 or 3 k."""
    if latent_frames == 1:
        return 1
    if latent_frames < 1 or latent_frames % LATENT_CHUNK:
        raise ValueError(
            f"Step-Video decodes chunks of {LATENT_CHUNK} latent frames to {CHUNK} frames each; got {latent_frames} "
            "latent frames: do not cut latents in time"
        )
    return FRAMES.frames(latent_frames)


def channel_average(x: torch.Tensor, channels: int) -> torch.Tensor:
    """(B, C, ...) -> (B, channels, ...): the mean of every C / channels consecutive channels."""
    return x.unflatten(1, (channels, -1)).mean(dim=2)


def unshuffle(x: torch.Tensor) -> torch.Tensor:
    """(B, C, T, H, W), T odd, behind a frame of zeros -> (B, 8 C, (T + 1) / 2, H / 2, W / 2), channels (C, t, h, w)."""
    x = F.pad(x, (0, 0, 0, 0, 1, 0))
    b, c, t, h, w = x.shape
    x = x.view(b, c, t // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, 8 * c, t // 2, h // 2, w // 2)


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `unshuffle`: its first frame is dropped."""
    b, c, t, h, w = x.shape
    x = x.view(b, c // 8, 2, 2, 2, t, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * t, 2 * h, 2 * w)[:, :, 1:]


class Encoder(nn.Module):
    def __init__(self, z: int, base: int, widths: Sequence[int], blocks: int, operations: Any, **factory):
        super().__init__()
        self.conv_in = CausalConv3d(3, base, 3, operations, **factory)
        self.down = nn.ModuleList()
        for level, (width, above) in enumerate(zip(widths, (base, *widths), strict=False)):
            down = nn.Module()
            down.block = residual_blocks(above, width, blocks, operations, **factory)
            if level == 0:
                down.downsample = PadDown2d(width, operations, **factory)
            elif level < len(widths) - 1:
                down.downsample = nn.Module()
                down.downsample.conv = CausalConv3d(width, width, 3, operations, stride=2, **factory)
            self.down.append(down)
        self.mid = middle(widths[-1], operations, **factory)
        self.norm_out = operations.GroupNorm(32, widths[-1], **factory)
        self.conv_patchify = nn.Module()
        self.conv_patchify.conv = CausalConv3d(widths[-1], 4 * z, 3, operations, **factory)
        self.conv_out = CausalConv3d(32 * z, 2 * z, 3, operations, **factory)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """One chunk (B, 3, frames, H, W) -> means and log variances (B, 2 z, T, H / 16, W / 16)."""
        x = self.conv_in(pixels)
        for level, down in enumerate(self.down):
            for block in down.block:
                x = block(x)
            if level == 0:
                x = down.downsample(x)
            elif level < len(self.down) - 1:
                x = down.downsample.conv(x)
        x = F.silu(frame_norm(self.norm_out, self.mid(x)))
        patched = unshuffle(self.conv_patchify.conv(x))
        x = patched + channel_average(unshuffle(x), patched.shape[1])
        moments = self.conv_out(x)
        return moments + channel_average(x, moments.shape[1])


class Decoder(nn.Module):
    def __init__(self, z: int, widths: Sequence[int], blocks: int, operations: Any, **factory):
        super().__init__()
        last = len(widths) - 1
        self.conv_in = CausalConv3d(z, 32 * z, 3, operations, **factory)
        self.conv_unpatchify = nn.Module()
        self.conv_unpatchify.conv = CausalConv3d(32 * z, 8 * widths[-1], 3, operations, **factory)
        self.mid = middle(widths[-1], operations, **factory)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            up = nn.Module()
            up.block = residual_blocks(widths[min(level + 1, last)], width, blocks + 1, operations, **factory)
            if level:
                up.upsample = upsampling(width, operations, with_time=level > 1, **factory)
            self.up.append(up)
        self.norm_out = operations.GroupNorm(32, widths[0], **factory)
        self.conv_out = CausalConv3d(widths[0], 3, 3, operations, **factory)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """One chunk (B, z, T, H, W) -> pixels (B, 3, frames, 16 H, 16 W): 17 frames of 3 latent ones, 1 of 1."""
        x = self.conv_in(latents)
        x = x + latents.repeat_interleave(x.shape[1] // latents.shape[1], dim=1)
        spread = self.conv_unpatchify.conv(x)
        x = shuffle(spread) + shuffle(x.repeat_interleave(spread.shape[1] // x.shape[1], dim=1))
        x = self.mid(x)
        for level in reversed(range(len(self.up))):
            for block in self.up[level].block:
                x = block(x)
            if level:
                x = self.up[level].upsample(x)
        x = F.silu(frame_norm(self.norm_out, x))
        return self.conv_out(x)[:, :, 3:]


class StepVideoVAE(nn.Module):
    """The defaults are the published version 2: 499 million parameters."""

    def __init__(
        self,
        *,
        latent_channels: int = 64,
        base: int = 32,
        encoder_widths: Sequence[int] = (128, 256, 512, 512),
        decoder_widths: Sequence[int] = (128, 256, 512, 512),
        blocks: int = 2,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.latent_channels = latent_channels
        self.encoder = Encoder(latent_channels, base, encoder_widths, blocks, operations, **factory)
        self.decoder = Decoder(latent_channels, decoder_widths, blocks, operations, **factory)

    def moments(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, frames, H, W) in [-1, 1] -> means, then log variances (B, 128, T, H / 16, W / 16).

        Raises: ValueError if there are not 1 or 17 k frames, or a side is no multiple of 16.
        """
        latent_frames(pixels.shape[2])
        if any(side % CELL for side in pixels.shape[3:]):
            height, width = pixels.shape[3:]
            raise ValueError(
                f"Step-Video codes cells of {CELL} pixels; got {width}x{height}: crop to multiples of {CELL}"
            )
        return torch.cat([self.encoder(chunk) for chunk in pixels.split(CHUNK, dim=2)], dim=2)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The means of `moments`: latents (B, 64, T, H / 16, W / 16)."""
        return self.moments(pixels)[:, : self.latent_channels]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, 64, T, H, W) -> pixels (B, 3, frames, 16 H, 16 W), about in [-1, 1]; T is 1 or 3 k (else ValueError)."""
        pixel_frames(latents.shape[2])
        return mixed_borders(torch.cat([self.decoder(chunk) for chunk in latents.split(LATENT_CHUNK, dim=2)], dim=2))

    def encode_tiled(
        self, pixels: torch.Tensor, tile_x: int = 256, tile_y: int = 256, overlap: int = 64, **_time: int
    ) -> torch.Tensor:
        """`encode` in pieces of the picture, sizes in pixels; the keywords are ComfyUI's. Time is in chunks anyway.

        Note: norms and attention then see a piece and not the whole picture: close to `encode`, not equal.
        """
        return tiled(self.encode, pixels, (tile_y, tile_x), overlap, step=CELL, scale=1 / CELL)

    def decode_tiled(
        self, latents: torch.Tensor, tile_x: int = 32, tile_y: int = 32, overlap: int = 8, **_time: int
    ) -> torch.Tensor:
        """`decode` in pieces of the picture, sizes in cells; see `encode_tiled`."""
        return tiled(self.decode, latents, (tile_y, tile_x), overlap, step=1, scale=CELL)


def mixed_borders(pixels: torch.Tensor) -> torch.Tensor:
    """Soften borders of chunks, in place: the frame behind takes 0.4 of the one before, which then takes 0.4 of it."""
    for start in range(CHUNK, pixels.shape[2], CHUNK):
        before, after = pixels[:, :, start - 1], pixels[:, :, start]
        after.mul_(0.6).add_(before, alpha=0.4)
        before.mul_(0.6).add_(after, alpha=0.4)
    return pixels


def published_sizes(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The sizes for `StepVideoVAE` that these weights (under its names) have, read from their shapes."""
    levels = sum(f"encoder.down.{i}.block.0.conv1.conv.weight" in state_dict for i in range(16))

    def widths(part: str) -> tuple[int, ...]:
        return tuple(state_dict[f"{part}.{i}.block.0.conv1.conv.weight"].shape[0] for i in range(levels))

    return {
        "latent_channels": state_dict["decoder.conv_in.conv.weight"].shape[1],
        "base": state_dict["encoder.conv_in.conv.weight"].shape[0],
        "encoder_widths": widths("encoder.down"),
        "decoder_widths": widths("decoder.up"),
        "blocks": sum(f"encoder.down.0.block.{i}.norm1.weight" in state_dict for i in range(16)),
    }


def file_keys(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published file's tensors under this module's names. Raises ValueError if they are not those of version 2."""
    if "decoder.conv_unpatchify.conv.conv.weight" not in state_dict:
        raise ValueError(
            "this is not version 2 of Step-Video's VAE (version 1 makes 16 channels, the transformer reads 64): take "
            "vae/vae_v2.safetensors"
        )
    renamed = {}
    for key, tensor in state_dict.items():
        if key.startswith(CONV_OUT_IN_FILE) and not key.startswith(CONV_OUT):
            key = CONV_OUT + key.removeprefix(CONV_OUT_IN_FILE)
        renamed[key] = tensor
    return renamed

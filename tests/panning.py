"""A video that pans over a picture, whose points are where the pan puts them."""

import torch
import torch.nn.functional as F


def texture(height, width, seed=0):
    """A smooth random picture (H, W, 3) in [0, 1]."""
    noise = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)


def panning_video(height, width, velocity, frames, dtype=torch.float32):
    """A window that moves over a still picture: every point of it moves by -velocity px a frame."""
    margin = 40
    picture = texture(height + 2 * margin, width + 2 * margin)
    result = []
    for t in range(frames):
        x, y = (margin + velocity[0] * t, margin + velocity[1] * t)
        result.append(picture[y : y + height, x : x + width])
    video = torch.stack(result)
    return (video * 255).round().to(torch.uint8) if dtype == torch.uint8 else video.to(dtype)


def grid_points(low=0.3, high=0.7, side=4):
    axis = torch.linspace(low, high, side)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)

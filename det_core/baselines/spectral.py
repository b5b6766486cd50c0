"""Spectral Motion Alignment's losses (SMA, arXiv 2403.15249), over VMC's (arXiv 2312.00845): how frames differ, whole,
in coarse and fine time, and in the frequencies of each frame."""

from __future__ import annotations

import torch

GLOBAL_WEIGHT, LOCAL_WEIGHT = 0.4, 0.2  # as in two of the released settings
LEVELS = 3  # of the wavelet; fewer where the clip has not the frames


def residual_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One minus the cosine of the differences of neighbouring frames, each as one vector.                (VMC)

    Args: predicted, target: velocities or noises (B, C, T, H, W).
    Returns: () float32.
    """
    steps = [v.float().diff(dim=2).transpose(1, 2).flatten(2) for v in (predicted, target)]
    return 1 - torch.cosine_similarity(*steps, dim=-1).mean()


def global_loss(x0_pred: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """Absolute differences of a Haar wavelet, over time, of how neighbouring frames differ: the low band and each high
    one count alike. An odd last value of a level is left out.

    Args: x0_pred, x0: (B, C, T, H, W).
    Returns: () float32. Of a clip of fewer than three frames 0 (with a gradient).
    """
    low = (x0_pred.float() - x0.float()).diff(dim=2)  # the wavelet is linear: that of the difference
    total = low.sum() * 0.0
    bands = 0
    for _ in range(LEVELS):
        if low.shape[2] < 2:
            break
        pairs = low[:, :, : low.shape[2] // 2 * 2].unflatten(2, (-1, 2))
        low, high = ((pairs[:, :, :, 0] + sign * pairs[:, :, :, 1]) / 2**0.5 for sign in (1, -1))
        total, bands = total + high.abs().mean(), bands + 1
    return total + low.abs().mean() if bands else total


def local_loss(x0_pred: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """Amplitude and phase, over the picture's frequencies, of how neighbouring frames differ; low ones count more.

    Phases differ by at most pi and count as much as the source's amplitude there: where that is zero they are noise.
    (The released code compares them without either.)

    Args: x0_pred, x0: (B, C, T, H, W).
    Returns: () float32.
    """
    found, wanted = (torch.fft.fft2(v.float().diff(dim=2)) for v in (x0_pred, x0))
    weight = frequency_weights(x0.shape[-2], x0.shape[-1]).to(x0.device)
    size = wanted.abs()
    amplitude = (found.abs() - size).abs()
    turned = found * wanted.conj()
    phase = torch.atan2(turned.imag, turned.real + 1e-12).abs() * (size / size.mean().clamp(min=1e-12))
    return (weight * (amplitude + phase)).mean()


def frequency_weights(height: int, width: int) -> torch.Tensor:
    """(height, width) in the order of `torch.fft.fft2`: R^0.05 - r^0.05 + 1, with r the squared distance of a frequency
    from zero and R the corner's."""
    row, column = (torch.fft.fftfreq(n, d=1 / n) for n in (height, width))
    squared = row[:, None] ** 2 + column**2
    return ((height / 2) ** 2 + (width / 2) ** 2) ** 0.05 - squared**0.05 + 1

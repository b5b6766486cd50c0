"""Clips of known truth for finding the subject: a drawn figure before a textured picture, the camera moving.

Kinds that real clips are of and the corpus is not: a cast shadow, snow, a coat half of the background's colour, a body
that rests while its head turns. No constant of the project was chosen on them.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

HEIGHT, WIDTH, FRAMES = 240, 360, 10
KINDS = ("plain", "shadow", "snow", "half its colour", "mostly its head", "large")


def moving_scene(kind: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (T, H, W, 3) uint8 and the figure's masks (T, H, W) bool."""
    rng = np.random.default_rng(1000 * KINDS.index(kind) + seed)
    ground = _texture(rng, HEIGHT + 80, WIDTH + 120, rng.uniform(60, 190, 3), 40)
    coat = _texture(rng, HEIGHT, WIDTH, _unlike(ground.mean((0, 1)), rng), 25)
    if kind == "half its colour":
        coat[:, WIDTH // 2 :] = _texture(rng, HEIGHT, WIDTH - WIDTH // 2, ground.mean((0, 1)), 40)
    pan, way = rng.uniform(-2.5, 2.5, 2), rng.choice([-1, 1]) * rng.uniform(3, 5)
    size, rise = 2.2 if kind == "large" else 1.0, rng.uniform(-1, 1)
    flakes = rng.uniform(0, 1, (250, 2)) * (WIDTH, HEIGHT)
    frames, masks = [], []
    for t in range(FRAMES):
        shift = np.float32([[1, 0, -60 + pan[0] * t], [0, 1, -40 + pan[1] * t]])
        frame = cv2.warpAffine(ground, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        still = kind == "mostly its head"
        x, y = WIDTH / 2 + (0 if still else way * (t - FRAMES / 2)) + pan[0] * t, HEIGHT / 2 + rise * t + pan[1] * t
        nod = np.array([way, 2 * rise]) * t if still else np.zeros(2)
        shape = _figure((x, y), size, nod)
        if kind == "shadow":
            cast = cv2.GaussianBlur(_ellipse((x + 25, y + 50), (60, 16)), (0, 0), 3)[..., None]
            frame = frame * (1 - 0.45 * cast)
        at = np.float32([[1, 0, x - WIDTH / 2], [0, 1, y - HEIGHT / 2]])
        skin = cv2.warpAffine(coat, at, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        frame = frame * (1 - shape[..., None]) + skin * shape[..., None]
        if kind == "snow":
            for flake in (flakes + np.array([1.5, 6]) * t) % (WIDTH, HEIGHT):
                cv2.circle(frame, tuple(int(c) for c in flake), 1, (240, 240, 240), -1)
        frames.append(np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8))
        masks.append(shape > 0.5)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(masks))


def _texture(rng, height: int, width: int, colour: np.ndarray, contrast: float) -> np.ndarray:
    """(height, width, 3) float around a colour, coarse and fine."""
    picture = np.zeros((height, width, 3), np.float32)
    for cells, part in ((6, 0.5), (20, 0.35), (70, 0.15)):
        noise = rng.normal(0, 1, (max(2, cells * height // width), cells, 3)).astype(np.float32)
        noise = 0.7 * noise.mean(-1, keepdims=True) * np.sqrt(3) + 0.3 * noise  # mostly lighter and darker
        picture += part * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.float32(colour) + contrast * picture, 0, 255)


def _unlike(colour: np.ndarray, rng) -> np.ndarray:
    """A colour at least 90 levels away in one channel."""
    while True:
        other = rng.uniform(20, 235, 3)
        if np.abs(other - colour).max() > 90:
            return other


def _ellipse(centre, axes, angle: float = 0.0) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH), np.float32)
    whole = [tuple(round(16 * value) for value in pair) for pair in (centre, axes)]  # in sixteenths of a px
    return cv2.ellipse(picture, *whole, angle, 0, 360, 1.0, -1, cv2.LINE_AA, 4)


def _figure(at: tuple[float, float], size: float, nod: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1]: body, head, legs and tail of an animal; its head is moved by `nod`."""
    x, y = at
    parts = [((0, 0), (42, 20), 0), ((-34, 26), (6, 18), 0), ((-18, 28), (6, 18), 0), ((20, 28), (6, 18), 0)]
    parts += [((34, 26), (6, 18), 0), ((46, -10), (16, 5), -40)]
    shape = np.zeros((HEIGHT, WIDTH), np.float32)
    for (dx, dy), (a, b), angle in parts:
        shape = np.maximum(shape, _ellipse((x + size * dx, y + size * dy), (size * a, size * b), angle))
    head = (x - size * 50 + nod[0], y - size * 16 + nod[1])
    return np.maximum(shape, _ellipse(head, (size * 16, size * 13)))

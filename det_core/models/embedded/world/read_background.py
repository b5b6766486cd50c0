"""Which background a clip has and how the camera moves before it, read from the pixels.

The camera is registered from the background's brightness, frame by frame: a search over shifts around the last frame's
camera, then least squares. What a pattern does not show is not found and stays as it was: everything on a plain ground,
the way along its stripes on a striped one, all but the height and the tilt of a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..corpus import BACKGROUND_COLOURS, PATTERNS, SIZE
from .background import background, light, seen_at

NOT_GROUND = 0.16  # RGB distance from the background colour's light and dark tones: something stands there
SEARCH_PX = 6  # a camera moves less than that from frame to frame
UNIT = torch.tensor([1.0, 1.0, 1 / 32, 1 / 32])  # of a camera: what moves the picture by about a pixel
WRONG_LIGHT = 0.12  # mean error of brightness at which a frame no longer shows the pattern


@dataclass(frozen=True)
class Ground:
    """colour and pattern of the clip, camera (T, 4), right (T,) bool: the frame alone shows this background, too."""

    colour: str
    pattern: str
    camera: torch.Tensor
    right: torch.Tensor

    def frames(self) -> torch.Tensor:
        """(T, 64, 64, 3): the background as it would be seen without objects."""
        return background(self.colour, self.pattern, self.camera)


def read_background(frames: torch.Tensor) -> Ground:
    """The background of a clip (T, 64, 64, 3) in [0, 1]."""
    table = torch.tensor(list(BACKGROUND_COLOURS.values()))
    brightness = (frames @ table.T) / table.pow(2).sum(-1)  # (T, 64, 64, 6)
    nearest = brightness.clamp(0.45, 1.55)[..., None] * table
    apart = (frames[..., None, :] - nearest).norm(dim=-1)
    cost = apart.clamp(max=0.25).mean((1, 2))  # (T, 6)
    best = int(cost.sum(0).argmin())
    lit, clear = brightness[..., best], apart[..., best] < NOT_GROUND
    cameras = {pattern: _camera(pattern, lit, clear) for pattern in _candidates(lit, clear)}
    errors = {pattern: _light_error(pattern, camera, lit, clear) for pattern, camera in cameras.items()}
    pattern = min(errors, key=lambda name: float(errors[name].mean()))
    right = (cost.argmin(1) == best) & (errors[pattern] < WRONG_LIGHT)
    return Ground(list(BACKGROUND_COLOURS)[best], pattern, cameras[pattern], right)


def _candidates(lit: torch.Tensor, clear: torch.Tensor) -> tuple[str, ...]:
    """The patterns that a clip's distribution of brightness allows."""
    values = lit[clear]
    if not len(values):
        return ("plain",)
    two_tones = ((values - 1).abs() > 0.22).float().mean()
    if two_tones > 0.75:
        return ("striped", "checkered")
    return ("plain",) if values.std() < 0.1 else ("gradient",) if two_tones < 0.65 else PATTERNS


def _light_error(pattern, camera, lit, clear) -> torch.Tensor:
    """(T,) mean difference of brightness where the background is seen."""
    difference = (light(pattern, camera) - lit).abs() * clear
    return difference.sum((1, 2)) / clear.sum((1, 2)).clamp(min=1)


def _blurred(picture: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(picture[:, None], 3, 1, 1, count_include_pad=False)[:, 0]


def _camera(pattern: str, lit: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """The camera (T, 4) that explains the brightness best; all zeros in the first frame."""
    cameras = [torch.zeros(4)]
    if pattern == "plain":
        return torch.zeros(len(lit), 4)
    steps = torch.arange(-SEARCH_PX, SEARCH_PX + 1.0)
    shifts = torch.cartesian_prod(steps, steps)
    shifts = F.pad(shifts[shifts.norm(dim=-1).argsort()], (0, 2))  # the smallest first, for ties
    target = _blurred(torch.where(clear, lit, 1.0))
    for seen, mask in zip(target[1:], clear[1:], strict=True):
        tried = cameras[-1] + shifts
        thinned = (_blurred(light(pattern, tried)) - seen)[:, ::2, ::2].abs() * mask[::2, ::2]
        cost = thinned.mean((1, 2))
        start = tried[int((cost + 1e-3 * shifts.norm(dim=-1)).argmin())]
        cameras.append(_least_squares(pattern, seen, mask, start))
    return torch.stack(cameras)


def _least_squares(pattern: str, seen: torch.Tensor, mask: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Damped Gauss-Newton steps, each kept only if it explains the frame (64, 64) better."""
    step = torch.diag(0.25 * UNIT)

    def error(cameras: torch.Tensor) -> torch.Tensor:
        return ((_blurred(light(pattern, cameras)) - seen) * mask).flatten(1)

    for _ in range(8):
        around = error(torch.cat([camera[None], camera + step, camera - step]))
        slope = (around[1:5] - around[5:]) / 0.5  # (4, pixels), a unit of each
        normal = slope @ slope.T
        damping = 0.02 * normal.diagonal().mean() + 1e-6
        move = torch.linalg.solve(normal + damping * torch.eye(4), -slope @ around[0]).clamp(-2, 2) * UNIT
        if error((camera + move)[None])[0].pow(2).sum() >= around[0].pow(2).sum():
            break
        camera = camera + move
    return camera


def camera_error(measured: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(T,) px: how far two cameras (T, 4) show the same nine places of the picture from each other, on average."""
    axis = torch.tensor([0.2, 0.5, 0.8]) * SIZE
    places = torch.cartesian_prod(axis, axis)
    return (seen_at(places, measured[:, None]) - seen_at(places, true[:, None])).norm(dim=-1).mean(-1)

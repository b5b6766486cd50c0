"""Ten motions that no setting of this project was chosen on, and of kinds that the corpus's generators do not make.

A path is (9, 2) in pixels of the embedded model's 64x64 picture; the sprite stays inside.
"""

from __future__ import annotations

import math

import torch

from det_core.models.embedded.corpus import FRAMES, Clip, Scene, render_video

T = torch.linspace(0, 1, FRAMES)


def _through(*corners: tuple[float, float], at: tuple[float, ...]) -> torch.Tensor:
    """Straight from corner to corner, each reached at its share of the time."""
    times, points = torch.tensor(at), torch.tensor(corners)
    after = torch.searchsorted(times, T.clamp(max=times[-1] - 1e-6), right=True).clamp(1, len(times) - 1)
    part = ((T - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1)[:, None]
    return points[after - 1] * (1 - part) + points[after] * part


def _circle(centre: tuple[float, float], radius: float, start: float, sweep: torch.Tensor) -> torch.Tensor:
    angle = math.radians(start) + torch.deg2rad(sweep)
    return torch.stack([centre[0] + radius * torch.cos(angle), centre[1] + radius * torch.sin(angle)], dim=1)


def _hop() -> torch.Tensor:
    along = ((T - 0.25) / 0.5).clamp(0, 1)
    return torch.stack([18 + 28 * along, 46 - 4 * 28 * along * (1 - along)], dim=1)


def _half_orbit() -> torch.Tensor:
    there = _circle((30, 30), 14, 180, 180 * (T / 0.6).clamp(max=1))
    return there + torch.stack([torch.zeros(FRAMES), (21 * (T - 0.6) / 0.4).clamp(min=0)], dim=1)


PATHS: dict[str, torch.Tensor] = {
    "stops": _through((15, 22), (45, 42), (45, 42), at=(0, 0.5, 1)),
    "wall": _through((16, 16), (50, 34), (20, 50), at=(0, 0.55, 1)),
    "accelerates": torch.stack([15 + 35 * T**2, 48 - 30 * T**2], dim=1),
    "three sides": _through((16, 18), (48, 18), (48, 48), (18, 48), at=(0, 0.36, 0.68, 1)),
    "grows": _through((24, 40), (40, 26), at=(0, 1)),
    "unequal legs": _through((14, 34), (24, 18), (36, 48), (42, 30), (50, 40), at=(0, 0.25, 0.6, 0.82, 1)),
    "pendulum": _circle((32, 14), 30, 90, 38 * torch.cos(2 * math.pi * T) * (1 - 0.3 * T)),
    "hop": _hop(),
    "half orbit": _half_orbit(),
    "u-turn": torch.cat([
        torch.stack([torch.linspace(14, 40, 4), torch.full((4,), 20.0)], dim=1),
        _circle((40, 32), 11, -90, torch.tensor([36.0, 84.0, 132.0])),
        torch.stack([torch.linspace(34, 20, 2), torch.full((2,), 44.0)], dim=1),
    ]),
}  # fmt: skip


def untuned_clip(name: str) -> tuple[Clip, list[str]]:
    """The clip of a motion, in a scene that training never showed, and two prompts that share no word with it."""
    index = list(PATHS).index(name)
    generator = torch.Generator().manual_seed(7000 + index)
    scenes = Scene.held_out()
    scene = scenes[int(torch.randint(len(scenes), (), generator=generator))]
    still = torch.zeros(FRAMES)
    radius = torch.linspace(9.4, 13.6, FRAMES) if name == "grows" else still + 11.5
    clip = Clip(render_video(scene, PATHS[name], radius, still), PATHS[name], scene)
    other = [s for s in scenes if not {s.colour, s.shape, s.background, s.pattern} & set(scene.caption.split())]
    order = torch.randperm(len(other), generator=generator)[:2]
    return clip, [other[i].caption for i in order]

"""The motions of the study, as cases of the benchmark that live in memory: clips, prompts, tracks.

Three sets. `study`: six motions of the kinds that settings were chosen on (other clips of them). `tuning`: clips that
settings were chosen on. `untuned`: ten motions that no setting of this project was chosen on, and of kinds that the
corpus's generators do not make.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from det_core.models.embedded.base_model import read_clip, sprite_tracks
from det_core.models.embedded.corpus import FRAMES, Clip, Scene, make_clip, render_video
from det_core.source import Source
from det_core.tracking.tracks import sample_query_points

FAMILIES = ("loop", "spiral", "zigzag", "bounce", "figure_eight", "heart")  # the last two are not in the corpus
POINTS = 50  # tracked


@dataclass(frozen=True)
class StudyCase:
    """One source motion.

    index: its place in its set. prompts: share no word with the clip's scene. sources: the clip with its tracks, one
    for each training seed that a set uses.
    """

    name: str
    index: int
    clip: Clip
    prompts: tuple[str, ...]
    sources: tuple[Source, ...]
    difficulty: str = "unknown"


def study_case(index: int, prompts: int = 2) -> StudyCase:
    """Indices from `len(FAMILIES)` on are other clips of the same families, for choosing settings before the study."""
    generator = torch.Generator().manual_seed(4000 + index)
    scene, family = held_out_scene(generator), FAMILIES[index % len(FAMILIES)]
    clip = make_clip(scene, family, generator)
    source = source_of(family, clip, generator)
    return StudyCase(family, index, clip, other_prompts(scene, generator, prompts), (source,))


def untuned_case(index: int) -> StudyCase:
    """The scene is one that training never showed; each of three training seeds tracks points of its own."""
    name, path = list(PATHS.items())[index]
    generator = torch.Generator().manual_seed(7000 + index)
    scene, still = held_out_scene(generator), torch.zeros(FRAMES)
    radius = torch.linspace(9.4, 13.6, FRAMES) if name == "grows" else still + 11.5
    clip = Clip(render_video(scene, path, radius, still), path, scene)
    seeded = (torch.Generator().manual_seed(1000 * draw + index) for draw in range(3))
    sources = tuple(source_of(name, clip, points) for points in seeded)
    return StudyCase(name, index, clip, other_prompts(scene, generator, 2), sources)


def held_out_scene(generator: torch.Generator) -> Scene:
    scenes = Scene.held_out()
    return scenes[int(torch.randint(len(scenes), (), generator=generator))]


def other_prompts(scene: Scene, generator: torch.Generator, count: int) -> tuple[str, ...]:
    words = set(scene.caption.split())
    other = [s for s in Scene.held_out() if not {s.colour, s.shape, s.background, s.pattern} & words]
    return tuple(other[i].caption for i in torch.randperm(len(other), generator=generator)[:count])


def source_of(name: str, clip: Clip, generator: torch.Generator) -> Source:
    reading = read_clip(clip.frames)
    tracks = sprite_tracks(reading, sample_query_points(reading.first_mask, POINTS, generator=generator))
    return Source(name, "", 8.0, (clip.frames * 255).round().byte(), clip.frames, tracks)


# --------------------------------------------------- paths of the untuned motions, (9, 2) in pixels of a 64x64 picture

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

SETS: dict[str, tuple[int, Callable[[int], StudyCase]]] = {
    "study": (len(FAMILIES), study_case),
    "tuning": (len(FAMILIES), lambda index: study_case(index + len(FAMILIES))),
    "untuned": (len(PATHS), untuned_case),
}

"""The procedural corpus of the embedded DiT: one sprite on one background, moving along a random path.

Convention: frames are (T, 64, 64, 3) float32 in [0, 1], RGB; positions are (x, y) in pixels, x right, y down, and the
    centre of the top-left pixel is (0.5, 0.5). A caption names the sprite's colour and shape and the background, never
    the motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

SIZE = 64  # pixels a side
FRAMES = 9

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (0.92, 0.16, 0.14),
    "green": (0.20, 0.85, 0.22),
    "blue": (0.22, 0.42, 1.00),
    "yellow": (0.98, 0.90, 0.20),
    "orange": (1.00, 0.55, 0.10),
    "pink": (1.00, 0.52, 0.80),
    "cyan": (0.25, 0.93, 0.95),
    "white": (0.97, 0.97, 0.97),
}
BACKGROUND_COLOURS = {
    "navy": (0.10, 0.12, 0.36),
    "maroon": (0.40, 0.08, 0.14),
    "olive": (0.36, 0.36, 0.10),
    "teal": (0.06, 0.38, 0.38),
    "grey": (0.40, 0.40, 0.42),
    "purple": (0.34, 0.14, 0.44),
}
PATTERNS = ("plain", "striped", "checkered", "gradient")


@dataclass(frozen=True)
class Scene:
    """What a caption names: the sprite's colour and shape, the background's colour and pattern."""

    colour: str
    shape: str
    background: str
    pattern: str

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} on a {self.background} {self.pattern} background"

    @staticmethod
    def all() -> list[Scene]:
        """Every scene of the corpus, in a fixed order."""
        return [Scene(c, s, b, p) for c in COLOURS for s in SHAPES for b in BACKGROUND_COLOURS for p in PATTERNS]

    @staticmethod
    def held_out() -> list[Scene]:
        """The eighth of all scenes that training never shows; the quality gate is measured on these alone."""
        return [scene for i, scene in enumerate(Scene.all()) if (i * 5 + i // 24) % 8 == 3]

    @staticmethod
    def training() -> list[Scene]:
        """The scenes that training draws from: all but the held-out ones."""
        held_out = set(Scene.held_out())
        return [scene for scene in Scene.all() if scene not in held_out]


def _pixel_grid() -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(SIZE, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def render_background(colour: str, pattern: str) -> torch.Tensor:
    """One background, (64, 64, 3). Patterns vary the named colour's brightness in cells of 8 pixels."""
    x, y = _pixel_grid()
    light = {
        "plain": torch.ones_like(x),
        "striped": torch.where((x // 8) % 2 == 0, 1.35, 0.65),
        "checkered": torch.where((x // 16 + y // 16) % 2 == 0, 1.35, 0.65),
        "gradient": 0.5 + 1.0 * y / SIZE,
    }[pattern]
    return (torch.tensor(BACKGROUND_COLOURS[colour]) * light[..., None]).clamp(0, 1)


def sprite_coverage(
    shape: str, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor, angle: torch.Tensor
) -> torch.Tensor:
    """Anti-aliased coverage in [0, 1] of a sprite centred at the origin of `x`, `y` (pixels; all arguments broadcast).

    `radius` is the circumradius in pixels; shapes are scaled to look equally big. `angle` is in radians, clockwise.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = x * cos + y * sin, y * cos - x * sin
    if shape == "circle":
        distance = torch.hypot(x, y) - 0.92 * radius
    elif shape == "square":
        distance = torch.maximum(x.abs(), y.abs()) - 0.80 * radius
    elif shape == "triangle":
        side = math.sqrt(3) / 2
        y = y - 0.15 * radius  # the centroid of the picture, not the circumcentre, is the position
        distance = torch.maximum(torch.maximum(side * x - 0.5 * y, -side * x - 0.5 * y), y) - 0.62 * radius
    elif shape == "star":
        sector = torch.atan2(x, -y)  # 0 points up
        folded = torch.remainder(sector + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
        length = torch.hypot(x, y)
        along, across = length * torch.cos(folded), length * torch.sin(folded).abs()
        outer, inner = 1.18 * radius, 0.55 * radius
        tip_x, tip_y = inner * math.cos(math.pi / 5) - outer, inner * math.sin(math.pi / 5)
        norm = torch.sqrt(tip_x**2 + torch.as_tensor(tip_y) ** 2)
        distance = ((along - outer) * tip_y - across * tip_x) / norm
    else:
        raise ValueError(f"no shape is called {shape!r}; shapes are {', '.join(SHAPES)}")
    return (0.5 - distance).clamp(0, 1)


def render_video(scene: Scene, path: torch.Tensor, radius: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Frames (T, 64, 64, 3) of a scene whose sprite follows `path` (T, 2) with `radius` (T,) and `angle` (T,)."""
    x, y = _pixel_grid()
    offset = path[:, :, None, None]
    coverage = sprite_coverage(
        scene.shape, x - offset[:, 0], y - offset[:, 1], radius[:, None, None], angle[:, None, None]
    )[..., None]
    background = render_background(scene.background, scene.pattern)
    return background * (1 - coverage) + torch.tensor(COLOURS[scene.colour]) * coverage


# ---------------------------------------------------------------------------------------------- paths
# A family maps a phase in [0, 1] and a random generator to a curve in the plane; `random_path` turns, scales and places
# it.


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _line(s, g):
    return s, torch.zeros_like(s)


def _arc(s, g):
    sweep = _uniform(g, 0.7, 1.4) * math.pi
    return torch.cos(sweep * s), torch.sin(sweep * s)


def _loop(s, g):
    turns = _uniform(g, 0.85, 1.1) * 2 * math.pi
    return torch.cos(turns * s), _uniform(g, 0.6, 1.0) * torch.sin(turns * s)


def _spiral(s, g):
    turns = _uniform(g, 1.0, 1.5) * 2 * math.pi
    return (0.25 + 0.75 * s) * torch.cos(turns * s), (0.25 + 0.75 * s) * torch.sin(turns * s)


def _zigzag(s, g):
    legs = 2 + int(_uniform(g, 0, 2.99))
    return s * 2, _uniform(g, 0.5, 1.1) * (torch.remainder(s * legs, 2) - 1).abs()


def _sine(s, g):
    return s * 2, _uniform(g, 0.3, 0.7) * torch.sin(_uniform(g, 1.0, 2.0) * 2 * math.pi * s)


def _bounce(s, g):
    hops = 1 + int(_uniform(g, 0, 1.99))
    return s * 2, -_uniform(g, 0.8, 1.4) * torch.sin(hops * math.pi * s).abs()


def _fourier(s, g):
    curves = []
    for _ in range(2):
        curve = torch.zeros_like(s)
        for k in (1, 2, 3):
            curve = curve + _uniform(g, -1, 1) / k * torch.sin(math.pi * k * s + _uniform(g, 0, 2 * math.pi))
        curves.append(curve)
    return tuple(curves)


def _there_and_back(s, g):
    return (2 * s - 1).abs(), _uniform(g, -0.2, 0.2) * s


def _figure_eight(s, g):
    return torch.sin(2 * math.pi * s), 0.7 * torch.sin(4 * math.pi * s)


def _staircase(s, g):
    step = s * 4
    return (step / 2).floor() + (step % 2).clamp(max=1), -((step / 2).floor() + (step % 2 - 1).clamp(min=0))


def _heart(s, g):
    u = 2 * math.pi * s
    return torch.sin(u) ** 3, -(13 * torch.cos(u) - 5 * torch.cos(2 * u) - 2 * torch.cos(3 * u) - torch.cos(4 * u)) / 16


FAMILIES = {
    "line": _line,
    "arc": _arc,
    "loop": _loop,
    "spiral": _spiral,
    "zigzag": _zigzag,
    "sine": _sine,
    "bounce": _bounce,
    "fourier": _fourier,
    "there_and_back": _there_and_back,
}
UNSEEN_FAMILIES = {"figure_eight": _figure_eight, "staircase": _staircase, "heart": _heart}


def random_path(family: str, generator: torch.Generator, frames: int = FRAMES) -> torch.Tensor:
    """A random path (frames, 2) in pixels of one family: turned, scaled and placed so that a sprite stays inside."""
    curve = {**FAMILIES, **UNSEEN_FAMILIES}[family]
    s = torch.linspace(0, 1, frames)
    x, y = curve(s, generator)
    points = torch.stack([x, y], dim=-1)
    turn = _uniform(generator, 0, 2 * math.pi)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = points @ rotation.T
    low, high = points.amin(0), points.amax(0)
    margin, room = 13.0, SIZE - 26.0
    scale = room / (high - low).max().clamp(min=1e-6) * _uniform(generator, 0.6, 1.0)
    extent = (high - low) * scale
    corner = margin + torch.rand(2, generator=generator) * (room - extent)
    return (points - low) * scale + corner


@dataclass(frozen=True)
class Clip:
    """A rendered clip with its truth: `frames` (T, 64, 64, 3), `path` (T, 2) pixels, the scene."""

    frames: torch.Tensor
    path: torch.Tensor
    scene: Scene


def make_clip(scene: Scene, family: str, generator: torch.Generator, frames: int = FRAMES) -> Clip:
    """A clip of `scene` whose sprite moves on a random path of `family`, with slow random changes of size and angle."""
    path = random_path(family, generator, frames)
    s = torch.linspace(0, 1, frames)
    radius = _uniform(generator, 10.5, 12.5) + _uniform(generator, -1.2, 1.2) * s
    angle = _uniform(generator, -0.15, 0.15) + _uniform(generator, -0.2, 0.2) * s
    return Clip(render_video(scene, path, radius, angle), path, scene)


def random_clip(generator: torch.Generator, scenes: list[Scene], frames: int = FRAMES) -> Clip:
    """A clip of a random scene out of `scenes` on a path of a random training family."""
    scene = scenes[int(torch.randint(len(scenes), (), generator=generator))]
    family = list(FAMILIES)[int(torch.randint(len(FAMILIES), (), generator=generator))]
    return make_clip(scene, family, generator, frames)

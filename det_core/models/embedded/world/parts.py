"""What moves in a clip of the world, part by part: the objects before a camera at rest, their limbs, the camera."""

from __future__ import annotations

import torch

from ....tracking.tracks import Tracks
from ..corpus import SIZE, _pixel_grid
from .background import seen_at
from .poses import cover_of
from .reader import ObjectReading, WorldReading, read_world

MOVES_PX = 2.0  # how far objects or the picture get from where they were
SWINGS = 0.35  # rad between the two ends of a limb's swing
PICTURED_LIMB = 0.25  # of the picture: limbs are compared at this length, whatever the size of their body
PLACES = (0.2, 0.5, 0.8)  # of the picture, both ways: where the camera is watched
TRACKER = "world"


def rested(places: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Places (T, 2) px, seen by a camera (T, 4), as the first frame's camera would have seen them."""
    offset = (places - SIZE / 2 - camera[:, :2]) / camera[:, 2:3].exp()
    cos, sin = camera[:, 3].cos(), camera[:, 3].sin()
    x, y = offset.unbind(-1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin], -1) + SIZE / 2


def _held(path: torch.Tensor) -> torch.Tensor:
    """A path (T, 2) with the last place, or the first, where it is not seen."""
    seen = ~torch.isnan(path[:, 0])
    last = torch.where(seen, torch.arange(len(path)), -1).cummax(0).values
    last[last < 0] = int(seen.nonzero()[0])
    return path[last]


def object_paths(reading: WorldReading, *, still: bool = True) -> Tracks | None:
    """One track an object, in the picture or (still) as a camera at rest would have seen it; None without objects."""
    objects = [one for one in reading.objects if one.seen.any()]  # of a speck only the colour is known
    if not objects:
        return None
    camera = reading.ground.camera
    paths = [rested(one.path, camera) if still else one.path for one in objects]
    visible = torch.stack([one.seen for one in objects])
    return Tracks(torch.stack([_held(path) for path in paths]).float() / SIZE, visible, TRACKER)


def swinging(thing: ObjectReading) -> list[int]:
    """Which of an object's limbs swing; a shape has none."""
    limbs = thing.limbs[thing.seen]
    return [] if not limbs.numel() else (limbs.amax(0) - limbs.amin(0) > SWINGS).nonzero().flatten().tolist()


def limb_ends(thing: ObjectReading, limbs: list[int]) -> Tracks:
    """One track for each of these limbs of a figure, its end seen from its joint."""
    angles = thing.limbs[:, limbs]
    side = torch.tensor([-1.0, 1.0, -1.0, 1.0])[limbs]
    ends = torch.stack([side * angles.sin(), angles.cos()], -1).transpose(0, 1)  # (L, T, 2)
    visible = thing.seen.expand(len(ends), -1)
    return Tracks(0.5 + PICTURED_LIMB * ends.nan_to_num(0.0).float(), visible, TRACKER)


def camera_places(reading: WorldReading) -> Tracks:
    """Nine places of the first frame's picture, where the camera takes them."""
    at = torch.tensor(PLACES) * SIZE
    places = torch.cartesian_prod(at, at)
    points = seen_at(places[:, None], reading.ground.camera[None])
    return Tracks(points / SIZE, torch.ones(points.shape[:2], dtype=torch.bool), TRACKER)


def moving(reading: WorldReading) -> set[str]:
    """Which of "objects", "limbs" and "camera" move in a clip."""
    found = set()
    paths = object_paths(reading)
    if paths is not None and _reach(paths) > MOVES_PX:
        found.add("objects")
    if any(swinging(one) for one in reading.objects):
        found.add("limbs")
    if _reach(camera_places(reading)) > MOVES_PX:
        found.add("camera")
    return found


def _reach(tracks: Tracks) -> float:
    """px that any track gets from where it began."""
    return float((tracks.points - tracks.points[:, :1]).norm(dim=-1).max()) * SIZE


def read_tracks(frames: torch.Tensor, count: int, generator: torch.Generator, *, ground: bool = True) -> Tracks | None:
    """About `count` points of a clip (T, 64, 64, 3) that move with what moves: of every object, rigidly with its pose,
    and (ground), where the camera moves, as many of the background. None if this is no clip of the world."""
    reading = read_world(frames)
    known = reading.ground.right.float().mean() > 0.7 and reading.objects
    if not known or not all(one.seen[0] for one in reading.objects):
        return None
    ground = ground and "camera" in moving(reading)
    share = count // (len(reading.objects) + ground)
    tracks = [_points_of(thing, share, generator) for thing in reading.objects]
    if ground:
        tracks.append(_points_of_ground(reading, share, generator))
    tracks = [one for one in tracks if one is not None]
    return Tracks.joined(tracks) if tracks else None


def _points_of(thing: ObjectReading, count: int, generator: torch.Generator) -> Tracks | None:
    """Points that an object covers in the first frame; None for a stain of a colour that no object has."""
    x, y = _pixel_grid()
    rows, columns = torch.nonzero(cover_of(thing.kind, thing.poses[0], x, y) > 0.5, as_tuple=True)
    if not len(rows):
        return None
    chosen = torch.randint(len(rows), (count,), generator=generator)
    start = torch.stack([columns[chosen], rows[chosen]], -1) + 0.5
    pose = torch.cat([_held(thing.poses[:, :2]), _held(thing.poses[:, 2:4])], -1)
    offset = (start - pose[0, :2])[:, None] * (pose[:, 2] / pose[0, 2])[:, None]
    turn = pose[:, 3] - pose[0, 3]
    x, y = offset.unbind(-1)
    turned = torch.stack([x * turn.cos() - y * turn.sin(), y * turn.cos() + x * turn.sin()], -1)
    return Tracks((turned + pose[:, :2]) / SIZE, thing.seen.expand(count, -1), TRACKER)


def _points_of_ground(reading: WorldReading, count: int, generator: torch.Generator) -> Tracks:
    start = torch.rand(count, 2, generator=generator) * SIZE
    points = seen_at(start[:, None], reading.ground.camera[None]) / SIZE
    return Tracks(points, ((points > 0) & (points < 1)).all(-1), TRACKER)

"""Read a clip of the world analytically: its background, the camera, and every object's colour, kind and motion.

Nothing here is learned. The background and its camera come first (read_background.py); what stands out from them is
sorted by colour, as no two objects of a clip share one; each colour's picture is compared with drawings of every kind
and fitted by one (poses.py). Where objects touch, what is behind another is left out of the fit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..corpus import COLOURS, _pixel_grid
from ..reader import _largest_piece
from .figures import LIMBS_OF
from .poses import cover_of, first_look, fitted
from .read_background import Ground, read_background
from .scene import MOST_OBJECTS, World

STANDS_OUT = 0.22  # RGB distance from the background at which a pixel counts as an object's
SMALLEST_PX = 35  # pixels of an object; the corpus has about 70 to 500
MISFIT = 5e-4  # mean error of a good fit over the picture
TRUE_COLOUR = 0.30  # RGB distance from a colour of the corpus at which a pixel is inside an object of that colour


@dataclass(frozen=True)
class ObjectReading:
    """One object of a clip.

    kinds: T names, "" where it is not seen; kind is the one of most frames. poses: (T, 8) (poses.py), NaN where it is
    not seen; the path is its first two columns, the limbs its last four. touched: (T,) bool, beside or behind another.
    whole: (T,) share of its pixels that are in its largest piece.
    """

    colour: str
    kind: str
    kinds: list[str]
    poses: torch.Tensor
    touched: torch.Tensor
    whole: torch.Tensor

    @property
    def path(self) -> torch.Tensor:
        """(T, 2) px, NaN where it is not seen."""
        return self.poses[:, :2]

    @property
    def limbs(self) -> torch.Tensor:
        """(T, L) rad: 4 of a walker, 2 of a bird, 0 of a shape."""
        return self.poses[:, 4 : 4 + LIMBS_OF.get(self.kind, 0)]

    @property
    def seen(self) -> torch.Tensor:
        """(T,) bool."""
        return ~torch.isnan(self.poses[:, 0])


@dataclass(frozen=True)
class WorldReading:
    """What a clip shows: its background with the camera, its objects (largest first), how many pieces each frame has,
    (T,), and pairs (in front, behind) of the objects' colours where one was seen to cover another."""

    ground: Ground
    objects: list[ObjectReading]
    counts: torch.Tensor
    in_front: set[tuple[str, str]]

    def of_colour(self, colour: str) -> ObjectReading | None:
        return next((thing for thing in self.objects if thing.colour == colour), None)

    def agreement(self, world: World) -> dict[str, float]:
        """Shares of frames (of objects and frames, for colour and shape) that agree with `world`."""
        frames = len(self.counts)
        named = [self.of_colour(thing.colour) for thing in world.things]
        colour = sum(float(one.seen.float().mean()) for one in named if one) / len(named)
        shape = sum(
            sum(kind == thing.kind for kind in one.kinds) / frames
            for one, thing in zip(named, world.things, strict=True)
            if one
        ) / len(named)
        same = (self.ground.colour, self.ground.pattern) == (world.background, world.pattern)
        return {
            "colour": colour,
            "shape": shape,
            "background": float(self.ground.right.float().mean()) if same else 0.0,
            "count": float((self.counts == len(world.things)).float().mean()),
        }


def read_world(frames: torch.Tensor, *, fit: bool = True) -> WorldReading:
    """Read a clip (T, 64, 64, 3) in [0, 1]. fit=False leaves poses as first seen (2 px, 20 degrees): for counting."""
    ground = read_background(frames)
    behind = ground.frames()
    apart = (frames - behind).norm(dim=-1) > STANDS_OUT
    colours = _colours_seen(frames, apart)
    if not colours:
        return WorldReading(ground, [], torch.zeros(len(frames), dtype=torch.long), set())
    covers, labels = _covers(frames, behind, apart, colours)
    counts = sum(_pieces(labels, index) for index in range(len(colours)))
    objects = [_read_object(colour, index, covers[index], labels, fit) for index, colour in enumerate(colours)]
    return WorldReading(ground, objects, counts, _in_front(objects, labels) if fit else set())


def _colours_seen(frames: torch.Tensor, apart: torch.Tensor) -> list[str]:
    """Colours that fill a piece in a third of the frames or more, at most three, the most seen first."""
    table = torch.tensor(list(COLOURS.values()))
    distance = (frames[..., None, :] - table).norm(dim=-1)
    nearest = torch.where(apart & (distance.amin(-1) < TRUE_COLOUR), distance.argmin(-1), -1)
    areas = {}
    for index, name in enumerate(COLOURS):
        inside = _opened(nearest == index).sum((1, 2))
        if (inside >= SMALLEST_PX * 0.6).float().mean() >= 1 / 3:
            areas[name] = float(inside.float().mean())
    return sorted(areas, key=areas.get, reverse=True)[:MOST_OBJECTS]


def _opened(mask: torch.Tensor) -> torch.Tensor:
    """A mask (T, H, W) without what is thinner than two pixels, as blended edges are."""
    core = -F.max_pool2d(-F.pad(mask[:, None].float(), (0, 1, 0, 1)), 2, 1)
    return F.max_pool2d(F.pad(core, (1, 0, 1, 0)), 2, 1)[:, 0] > 0


def _covers(frames, behind, apart, colours) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of a pixel each colour covers, (N, T, 64, 64), and which one it is, (T, 64, 64), -1 for none."""
    covers, misses = [], []
    for name in colours:
        towards = torch.tensor(COLOURS[name]) - behind
        share = ((frames - behind) * towards).sum(-1) / towards.pow(2).sum(-1).clamp(min=1e-3)
        share = share.clamp(0, 1)
        covers.append(share)
        misses.append((frames - behind - share[..., None] * towards).norm(dim=-1))
    owner = torch.stack(misses).argmin(0)
    labels = torch.where(apart, owner, -1)
    own = torch.stack([cover * (owner == index) for index, cover in enumerate(covers)])
    return own, labels


def _pieces(labels: torch.Tensor, index: int) -> torch.Tensor:
    """(T,) how many pieces of one object are seen; what another object parts is one piece."""
    counts = []
    for frame in labels:
        rest, pieces = frame == index, 0
        together = F.max_pool2d((frame >= 0)[None, None].float(), 3, 1, 1)[0, 0] > 0
        while rest.sum() >= SMALLEST_PX:
            piece = _connected(together, rest)
            pieces += int((piece & rest).sum() >= SMALLEST_PX)
            rest = rest & ~piece
            together = together & ~piece
        counts.append(pieces)
    return torch.tensor(counts)


def _connected(mask: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """The piece of `mask` with the largest piece of `seeds` in it."""
    piece = _largest_piece(seeds)
    while True:
        grown = (F.max_pool2d(piece[None, None].float(), 3, 1, 1)[0, 0] > 0) & mask | piece
        if torch.equal(grown, piece):
            return piece
        piece = grown


def _read_object(colour: str, index: int, cover: torch.Tensor, labels: torch.Tensor, fit: bool) -> ObjectReading:
    mine = labels == index
    others = F.max_pool2d(((labels >= 0) & ~mine)[:, None].float(), 3, 1, 1)[:, 0] > 0
    area = mine.sum((1, 2))
    seen = area >= SMALLEST_PX
    bridged = F.max_pool2d(mine[:, None].float(), 3, 1, 1)[:, 0] > 0  # a head stands two pixels off its body
    main = torch.stack([_largest_piece(frame) for frame in bridged]) & mine
    near = F.max_pool2d(main[:, None].float(), 3, 1, 1)[:, 0] > 0
    kinds, poses, _ = first_look(torch.where(near, cover, 0.0))
    touched = (others & near).any(2).any(1)
    clear = seen & ~touched
    votes = Counter(
        kind for kind, counts in zip(kinds, (clear if clear.any() else seen).tolist(), strict=True) if counts
    )
    kind = votes.most_common(1)[0][0] if votes else ""
    if fit and kind:
        poses = _fit_frames(kind, kinds, cover * mine.logical_or(near), ~others, poses, seen, clear)
    # Behind another object the picture says little: there the clip's kind stands unless the first look agrees anyway.
    told = [
        "" if not s else kind if t else own for s, t, own in zip(seen.tolist(), touched.tolist(), kinds, strict=True)
    ]
    poses = torch.where(seen[:, None], poses, torch.nan)
    whole = main.sum((1, 2)) / area.clamp(min=1)
    return ObjectReading(colour, kind, told, poses, touched, whole)


def _fit_frames(kind, kinds, cover, known, poses, seen, clear) -> torch.Tensor:
    """Fit every frame from its own first look, then those that came out worse than most from the nearest good one."""
    fit, error = fitted(kind, cover, known, poses)
    trusted = clear & torch.tensor([own == kind for own in kinds])
    trusted &= error <= 1.5 * error[seen].median() + MISFIT
    if trusted.any() and not trusted[seen].all():
        index = torch.arange(len(poses))
        gap = (index[:, None] - index).abs() + 1000 * ~trusted
        start = fit[gap.argmin(1)].clone()
        start[:, :2] = poses[:, :2]
        again, other_error = fitted(kind, cover, known, start)
        fit = torch.where((~trusted & (other_error < error))[:, None], again, fit)
    return fit


def _in_front(objects: list[ObjectReading], labels: torch.Tensor) -> set[tuple[str, str]]:
    """Pairs of colours (in front, behind), from whose colour is seen where both have to be."""
    x, y = _pixel_grid()
    inside = [cover_of(one.kind, one.poses.nan_to_num(-99.0), x, y) > 0.95 if one.kind else None for one in objects]
    found = set()
    for a in range(len(objects)):
        for b in range(a + 1, len(objects)):
            if inside[a] is None or inside[b] is None:
                continue
            both = labels[inside[a] & inside[b]]
            shown_a, shown_b = int((both == a).sum()), int((both == b).sum())
            if shown_a + shown_b >= 4 and shown_a != shown_b:
                pair = (objects[a].colour, objects[b].colour)
                found.add(pair if shown_a > shown_b else pair[::-1])
    return found

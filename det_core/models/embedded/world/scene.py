"""What a clip of the world shows, in words: one to three objects of different colours on a background."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch

from ..corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS, SHAPES, Scene

FIGURES = ("walker", "bird")  # objects with limbs
KINDS = (*SHAPES, *FIGURES)
MOST_OBJECTS = 3


@dataclass(frozen=True)
class Thing:
    """One object: a colour of `COLOURS` and a kind of `KINDS`."""

    colour: str
    kind: str


@dataclass(frozen=True)
class World:
    """What a caption names: objects in the caption's order, the background's colour and pattern. Never a motion."""

    things: tuple[Thing, ...]
    background: str
    pattern: str

    @property
    def caption(self) -> str:
        named = " and ".join(f"{'an' if t.colour[0] in 'aeiou' else 'a'} {t.colour} {t.kind}" for t in self.things)
        article = "an" if self.background[0] in "aeiou" else "a"
        return f"{named} on {article} {self.background} {self.pattern} background"

    @property
    def held_out(self) -> bool:
        """Whether an object stands on a background that training never shows it on, alone or beside others."""
        return any((t.colour, t.kind, self.background, self.pattern) in _held_out() for t in self.things)


@cache
def _held_out() -> frozenset[tuple[str, str, str, str]]:
    """An eighth of all pairs of object and background; of the shapes those that model 1 never saw either."""
    shapes = {(s.colour, s.shape, s.background, s.pattern) for s in Scene.held_out()}
    figures = product(COLOURS, FIGURES, BACKGROUND_COLOURS, PATTERNS)
    return frozenset(shapes | {pair for i, pair in enumerate(figures) if (i * 5 + i // 24) % 8 == 3})


def random_world(generator: torch.Generator, things: int, *, held_out: bool) -> World:
    """A world of so many objects, all of different colours, that is held out of training, or is not."""

    def one_of(words) -> str:
        return tuple(words)[int(torch.randint(len(words), (), generator=generator))]

    while True:
        colours = [tuple(COLOURS)[i] for i in torch.randperm(len(COLOURS), generator=generator)[:things].tolist()]
        world = World(tuple(Thing(c, one_of(KINDS)) for c in colours), one_of(BACKGROUND_COLOURS), one_of(PATTERNS))
        if world.held_out == held_out:
            return world


def world_of(prompt: str) -> World | None:
    """The world that a prompt names in the corpus's words, or None."""
    colours, kinds, backgrounds, patterns = (
        "|".join(words) for words in (COLOURS, KINDS, BACKGROUND_COLOURS, PATTERNS)
    )
    front, _, back = prompt.lower().partition(" on ")
    things = re.findall(rf"\b({colours}) ({kinds})\b", front)
    ground = re.search(rf"\b({backgrounds}) ({patterns})\b", back)
    if not things or len(things) > MOST_OBJECTS or not ground:
        return None
    return World(tuple(Thing(*thing) for thing in things), *ground.groups())

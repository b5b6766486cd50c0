"""Sparse motion sampling: train on a few frames of the clip, each at the time it has in the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..media.frame_map import FrameMap

SPACINGS = ("random", "stride", "ends", "paper")

Encode = Callable[[torch.Tensor], torch.Tensor]  # frames (T, H, W, 3) in [0, 1] -> latents (1, C, T', H', W')


@dataclass(frozen=True)
class Example:
    """What one training step looks at: latents (1, C, T, H, W) and the time of each latent frame in the whole clip,
    None for 0, 1, 2, ..."""

    latents: torch.Tensor
    positions: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Examples:
    """What a training learns from: every step looks at one of these, drawn at random. All are of one shape."""

    all: Sequence[Example]

    def __post_init__(self):
        if not self.all or len({e.latents.shape for e in self.all}) != 1:
            raise ValueError("training needs at least one example, all of one size")

    @property
    def shape(self) -> torch.Size:
        """Of the latents that a step looks at, (1, C, T, H, W)."""
        return self.all[0].latents.shape

    @property
    def source(self) -> dict[str, torch.Tensor]:
        """Everything that is learned from: what a resumed run must share with the earlier one."""
        times = [list(e.positions or range(self.shape[2])) for e in self.all]
        return {"examples": torch.cat([e.latents for e in self.all]), "times": torch.tensor(times).float()}

    def draw(self, generator: torch.Generator) -> Example:
        return self.all[int(torch.randint(len(self.all), (), generator=generator))]


@dataclass(frozen=True)
class RandomFrames:
    """`Examples` without end: every step looks at `count` other latent frames of a clip (1, C, T, H, W), each at its
    own time.

    With even gaps the model never meets neighbouring frames, where most of its attention goes when it samples, and much
    of what it learns holds for such gaps alone. Latent frames that it joins to one token, `patch` of them, stay
    together.
    """

    latents: torch.Tensor
    count: int
    patch: int = 1

    def __post_init__(self):
        _check_fits(self.latents.shape[2], self.count, self.patch)

    @property
    def shape(self) -> torch.Size:
        return self.latents[:, :, : self.count].shape

    @property
    def source(self) -> dict[str, torch.Tensor]:
        return {"clip": self.latents, "frames at a time": torch.tensor([self.count, self.patch])}

    def draw(self, generator: torch.Generator) -> Example:
        tokens = torch.randperm(self.latents.shape[2] // self.patch, generator=generator)[: self.count // self.patch]
        frames = [int(t) * self.patch + i for t in tokens.sort().values for i in range(self.patch)]
        return _placed(self.latents[:, :, frames], tuple(map(float, frames)))


@dataclass(frozen=True)
class FrameSet:
    """A few frames of a clip, by index, and the positions they are shown at, in frames of the whole clip."""

    frames: tuple[int, ...]
    positions: tuple[float, ...]


def sparse_sets(total: int, count: int, spacing: str = "stride") -> list[FrameSet]:
    """All evenly spaced sets of `count` out of `total` frames that a training may draw from.

    "stride": every (total // count)-th frame from every possible start, each frame at its own index. So every frame is
        seen in some set, and positions are the very rows of the whole clip's table.
    "ends": one set, from the first to the last frame, positions scaled by (total - 1) / (count - 1).
    "paper": frames as for "stride", but positions i * total / count whatever the start, as the paper's formula reads.

    Raises: ValueError if the clip is shorter than the set.
    """
    _check_fits(total, count)
    if spacing == "ends":
        scale = (total - 1) / (count - 1)
        return [FrameSet(tuple(round(i * scale) for i in range(count)), tuple(i * scale for i in range(count)))]
    if spacing not in SPACINGS[1:]:
        raise ValueError(f"frames are spaced evenly by {', '.join(SPACINGS[1:])}, not {spacing!r}")
    stride, sets = total // count, []
    for start in range(total - stride * (count - 1)):
        frames = tuple(start + stride * i for i in range(count))
        paper = tuple(i * total / count for i in range(count))
        sets.append(FrameSet(frames, paper if spacing == "paper" else tuple(map(float, frames))))
    return sets


def sparse_count(total: int, patch: int = 1) -> int:
    """How many of `total` latent frames a step looks at if nothing is said: half of them, and at least 3. A multiple of
    `patch`, the latent frames of one token. (The paper takes 17 of 81 pixel frames, 5 of 21 latent ones.)"""
    return min(total // patch * patch, -(-max(3, (total + 1) // 2) // patch) * patch)


def sparse_latents(
    latents: torch.Tensor, count: int, spacing: str = "random", patch: int = 1
) -> RandomFrames | Examples:
    """What the temporal stage learns from, picked from the encoded clip (1, C, T, H, W): no further encoding.

    "random": other frames for every step, see `RandomFrames`; for the rest see `sparse_sets`.
    Raises: ValueError if the clip is shorter than the set.
    """
    if spacing == "random":
        return RandomFrames(latents, count, patch)
    _check_fits(latents.shape[2], count, patch)
    sets = sparse_sets(latents.shape[2], count, spacing)
    return Examples([_placed(latents[:, :, list(s.frames)], s.positions) for s in sets])


def sparse_clips(
    encode: Encode,
    frames: torch.Tensor,
    count: int,
    codec: FrameMap,
    spacing: str = "stride",
    *,
    starts: int = 4,
) -> Examples:
    """Sparse sets of pixel frames, each encoded as a clip of its own, as the paper does (81 frames -> 17).

    A causal video VAE then sees fewer, faster frames. Its latent frame j stands at the time of the frame of the set
    that it is read at.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        codec: `DiTSpec.frames`, for which `count` is a legal length.
        starts: encode at most this many of the possible sets, evenly chosen.
    """
    read_at = codec.read_at(codec.latent_frames(count))
    sets = sparse_sets(len(frames), count, spacing)
    chosen = (
        sets if len(sets) <= starts else [sets[round(i * (len(sets) - 1) / max(1, starts - 1))] for i in range(starts)]
    )
    return Examples(
        [
            _placed(encode(frames[list(s.frames)]), tuple(codec.position(s.positions[i]) for i in read_at))
            for s in chosen
        ]
    )


def still_examples(encode: Encode, frames: torch.Tensor) -> Examples:
    """Every frame (of (T, H, W, 3)) encoded alone, as a video of one frame: what the spatial stage learns from."""
    return Examples([Example(encode(frame[None])) for frame in frames])


def _check_fits(total: int, count: int, patch: int = 1) -> None:
    if not 2 <= count <= total:
        raise ValueError(
            f"a sparse set of {count} frames does not fit a clip of {total}: choose 2 frames to all, or a longer clip"
        )
    if count % patch:
        whole = count // patch * patch
        fits = whole + patch if whole + patch <= total else whole
        raise ValueError(f"this model joins {patch} latent frames to one token: use {fits} frames, not {count}")


def _placed(latents: torch.Tensor, positions: tuple[float, ...]) -> Example:
    """An example at these positions; 0, 1, 2, ... are the model's own and leave it untouched, bit for bit."""
    return Example(latents, None if positions == tuple(map(float, range(len(positions)))) else positions)

"""One loaded base model as the rest of the package sees it: taps, token grid, frames, defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ...media.frame_map import FrameMap
from .blocks import DROP_FRACTION

if TYPE_CHECKING:
    from .family import Family

Layout = Literal["diffusers", "native"]
Where = Literal["all", "first", "last"] | int
EXPERTS = ("high", "low")  # of two models, that for high noise and that for low noise


@dataclass(frozen=True)
class Tap:
    """Where one block is read and added to. Paths are module paths inside the transformer.

    input:    module whose first argument is the attention input (normalised and modulated tokens).
    output:   module whose result is the output of the attention's output projection, before the block's gate. It may
              be the same module as `input`, and may return a tuple whose first item is meant.
    where:    "output" adds to that module's result. "input" adds to its argument instead, for fused single-stream
              blocks, where attention and MLP share one output projection: the attention half comes first in it.
    tokens:   where the video's tokens stand among those that pass: "all" of them, "first" or "last" beside others, or
              after so many others. Tokens are (B, tokens, channels), or (tokens, channels) in models that take one
              sequence at a time.
    channels: width of the attention half when `where` is "input".
    """

    input: str
    output: str
    where: Literal["output", "input"] = "output"
    tokens: Where = "all"
    channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How long and how fast something is trained. The values are the paper's for CogVideoX-5B."""

    lr: float = 1e-5
    weight_decay: float = 1e-2  # the paper's; the released code's default is 1e-4
    steps: int = 500
    warmup: int = 0  # steps over which the learning rate rises linearly
    decay: bool = False  # let the learning rate fall linearly to zero; the paper keeps it constant
    average: float = 0.0  # keep of a running average of the weights, which is what is used; 0: the last step's weights
    batch: int = 1  # independent (noise, t) draws a step


@dataclass(frozen=True, kw_only=True)
class Defaults(Optimisation):
    """How one base model is trained and sampled unless the user says otherwise.

    The values are those of the paper where it has them; each family's file says which are ours.
    """

    mid_dim: int = 128
    kernel_size: int = 3
    init_std: float | None = None  # deviation of a new down kernel; None: 1, as in the released code
    drop_fraction: float = DROP_FRACTION  # of the blocks, from the last one back, when sampling

    sample_steps: int = 50
    cfg: float = 6.0  # a guidance-distilled model (HunyuanVideo) is told this number instead of being run twice
    shift: float = 1.0  # of the flow models' sampling schedule, towards noise
    frames: int = 49
    height: int = 480  # pixels
    width: int = 720
    fps: float = 8.0  # at which its videos play

    guide_block: int | None = None  # that guidance reads; None: the last of the model's first half
    guide_updates: int = 4  # of the latents, in all
    guide_step: float = 29.0  # size of an update times the root of the number of latent elements


@dataclass(frozen=True, kw_only=True)
class DiTSpec:
    """One base model as an adapter sees it, bound to the sizes of one loaded transformer.

    Convention: `patch` is (T, H, W) latent cells to a token; blocks are numbered in the order they run (HunyuanVideo:
        the double-stream blocks, then the single-stream ones).
    """

    family: Family
    layout: Layout
    dim: int  # channels of a token
    taps: tuple[Tap, ...]  # one a block
    patch: tuple[int, int, int]
    frames: FrameMap  # pixel frames <-> latent frames
    spatial_compression: int  # pixels to a latent cell, on each side
    prediction: Literal["v", "flow"]
    track_limit: float  # the tracking loss acts up to this time, 0 (clean) to 1000 (noise); 1000 sigma for flow
    defaults: Defaults
    head_width: int | None = None  # channels of an attention head, where fused projections go head by head
    inner_dim: int | None = None  # channels of q, k and v, where they are not those of a token
    attention: Where = "all"  # where the video's tokens stand in a block's q and k
    embedded_guidance: bool = False  # is told its guidance instead of being run twice for it
    version: str = ""  # of a family whose versions have the same sizes and other weights
    boundary: float | None = None  # two experts, their blocks alternate in `taps`: time from which the first acts
    caution: str | None = None  # known trouble, for the user to read before training

    @property
    def name(self) -> str:
        """The family's name, as adapter files have it."""
        return self.family.name

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the two experts, if there are two, in the order in which their blocks alternate."""
        return EXPERTS if self.boundary is not None else ()

    @property
    def num_blocks(self) -> int:
        return len(self.taps)

    @property
    def attention_dim(self) -> int:
        """Channels of q, k and v."""
        return self.inner_dim or self.dim

    @property
    def guide_block(self) -> int:
        """The block that guidance reads; of two experts it is the first one's, which makes the first steps."""
        own, turns = self.defaults.guide_block, max(1, len(self.experts))
        return max(0, self.num_blocks // turns // 2 - 1) * turns if own is None else own

    def expert_of(self, block: int) -> str | None:
        """The expert that has this block, where there are two."""
        return self.experts[block % len(self.experts)] if self.experts else None

    def grid(self, latent_shape: torch.Size | tuple[int, ...]) -> tuple[int, int, int]:
        """Token grid (T, H, W) of latents (B, C, T, H, W); a cell that fills part of a patch counts as a patch."""
        return tuple(math.ceil(size / patch) for size, patch in zip(latent_shape[-3:], self.patch, strict=True))

    def whole_grid(self, latent_shape: torch.Size | tuple[int, ...]) -> tuple[int, int, int]:
        """`grid` for diffusers' models, which drop what does not fill a patch. Raises: ValueError if there is any."""
        sizes = tuple(latent_shape[-3:])
        if any(size % patch for size, patch in zip(sizes, self.patch, strict=True)):
            raise ValueError(
                f"latents of {'x'.join(map(str, sizes))} cells do not divide into {self.name}'s patches of "
                f"{'x'.join(map(str, self.patch))}: use a height and width that are multiples of "
                f"{self.patch[1] * self.spatial_compression} pixels"
            )
        return self.grid(sizes)

    def check_made_for(self, what: str, name: str, num_blocks: int, dim: int, version: str = "") -> None:
        """Raises: ValueError naming both models if `what` was made for another one. No version is any version: files
        of earlier releases do not say it."""
        if (name, num_blocks, dim, version or self.version) != (self.name, self.num_blocks, self.dim, self.version):
            raise ValueError(
                f"this {what} was made for {described(name, version, num_blocks, dim)}, but the model is "
                f"{self.describe()}: load the model it was trained on, or train one for this model"
            )

    def describe(self) -> str:
        """The model in an error message: name, blocks, width."""
        return described(self.name, self.version, self.num_blocks, self.dim)


def described(name: str, version: str, num_blocks: int, dim: int) -> str:
    """A model in a message."""
    return f"{' '.join(filter(None, (name, version)))} with {num_blocks} blocks of {dim} channels"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a torch.compile wrapper, or the model itself."""
    return getattr(model, "_orig_mod", model)


def video_slice(where: Where, tokens: int, grid: tuple[int, int, int], place: str) -> slice:
    """Which of `tokens` are those of a video of `grid` (T, H, W) tokens; `place` names them in the message.

    Raises: ValueError if there are fewer tokens than the grid has, or others where none should be.
    """
    count = math.prod(grid)
    if tokens == count or (tokens > count and where == "first"):
        return slice(0, count)
    if tokens > count and where == "last":
        return slice(tokens - count, tokens)
    if isinstance(where, int) and tokens >= where + count:
        return slice(where, where + count)
    raise ValueError(
        f"{place} sees {tokens} tokens, but a video of {grid[0]}x{grid[1]}x{grid[2]} has {count}: extra reference, "
        "guide or context frames do not work with a motion adapter; remove them"
    )


def has_modules(model: nn.Module, *paths: str) -> bool:
    """Whether all these submodules or parameters exist in `model`."""

    def present(path: str) -> bool:
        found: Any = model
        for part in path.split("."):
            found = getattr(found, part, None)
            if found is None:
                return False
        return True

    return all(present(path) for path in paths)

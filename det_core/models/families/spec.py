"""What the rest of the package needs to know about one base model: where to tap it, its token grid, its defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Tap:
    """Where one block is read and added to. Paths are module paths inside the transformer.

    input:    module whose first argument is the attention input (normalised and modulated tokens).
    output:   module whose result is the output of the attention's output projection, before the block's gate. It may
              be the same module as `input`, and may return a tuple whose first item is meant.
    where:    "output" adds to that module's result. "input" adds to its argument instead, for fused single-stream
              blocks, where attention and MLP share one output projection: the attention half comes first in it.
    tokens:   "all" where only video tokens pass, "last" where other tokens come before them.
    channels: width of the attention half when `where` is "input".
    """

    input: str
    output: str
    where: Literal["output", "input"] = "output"
    tokens: Literal["all", "last"] = "all"
    channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """How one base model is trained and sampled unless the user says otherwise.

    The values are those of the paper where it has them; each family's file says which are ours.
    """

    mid_dim: int = 128
    kernel_size: int = 3
    init_std: float | None = None  # deviation of a new down kernel; None: 1, as in the released code
    lr: float = 1e-5
    weight_decay: float = 1e-2
    steps: int = 500
    warmup: int = 0  # steps of linear learning-rate warm-up
    decay: bool = False  # let the learning rate fall linearly to zero
    batch: int = 1  # noise draws a step
    drop_fraction: float = 0.65  # of the blocks, from the last one back, when sampling

    sample_steps: int = 50
    cfg: float = 6.0  # a guidance-distilled model (HunyuanVideo) is told this number instead of being run twice
    shift: float = 1.0  # of the flow models' sampling schedule, towards noise
    frames: int = 49
    height: int = 480  # pixels
    width: int = 720


@dataclass(frozen=True, kw_only=True)
class DiTSpec:
    """One base model as an adapter sees it, bound to the sizes of one loaded transformer.

    Convention: `patch` is (T, H, W) latent cells to a token; blocks are numbered in the order they run (HunyuanVideo:
        the double-stream blocks, then the single-stream ones).
    """

    name: str  # "cogvideox", "hunyuan_video", "wan", "ltx", "embedded"
    layout: Literal["diffusers", "native"]
    dim: int  # channels of a token
    taps: tuple[Tap, ...]  # one a block
    patch: tuple[int, int, int]
    temporal_compression: int  # pixel frames to a latent frame, after the first
    spatial_compression: int  # pixels to a latent cell, on each side
    prediction: Literal["v", "flow"]
    track_limit: float  # the tracking loss acts up to this time, 0 (clean) to 1000 (noise); 1000 sigma for flow
    defaults: Defaults
    caution: str | None = None  # known trouble, for the user to read before training

    @property
    def num_blocks(self) -> int:
        return len(self.taps)

    def grid(self, latent_shape: torch.Size | tuple[int, ...]) -> tuple[int, int, int]:
        """Token grid (T, H, W) of latents (B, C, T, H, W); a cell that fills part of a patch counts as a patch."""
        return tuple(math.ceil(size / patch) for size, patch in zip(latent_shape[-3:], self.patch, strict=True))

    def describe(self) -> str:
        """The model in an error message: name, blocks, width."""
        return f"{self.name} with {self.num_blocks} blocks of {self.dim} channels"


@dataclass(frozen=True)
class Family:
    """How one family of base models is recognised and read; one lives in each file of this package.

    diffusers_class: class name of the diffusers transformer.
    is_native:       does this module carry the family's native (ComfyUI) structure?
    bind:            (model, layout) -> DiTSpec.
    call_grid:       (spec, args, kwargs) -> (T, H, W) of one call of the diffusers transformer.
    to_native, to_diffusers: rename (and fuse or split) the tensors of a state dict; exact inverses of each other.
    """

    diffusers_class: str
    is_native: Callable[[nn.Module], bool]
    bind: Callable[[nn.Module, str], DiTSpec]
    call_grid: Callable[[DiTSpec, tuple, Mapping[str, Any]], tuple[int, int, int]]
    to_native: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
    to_diffusers: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


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


def latents_argument(args: tuple, kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The latents of a diffusers transformer's call: its first argument, `hidden_states`."""
    return args[0] if args else kwargs["hidden_states"]

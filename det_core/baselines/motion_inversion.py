"""MotionInversion (Wang et al., arXiv 2403.20193) on a DiT: learned embeddings added to what attention reads.

Every block has one vector for each time step, added to the video tokens before q and k, and one for each place, added
before v. This is the form in which the DeT paper compares it on CogVideoX (learning rate 1e-3, 500 steps, all blocks).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from ..models.families import DiTSpec, call_grid, spec_for, unwrapped
from ..models.families.projections import projections
from ..models.families.spec import video_slice
from ..models.overriding import Forward, overridden


class MotionInversion(nn.Module):
    """The embeddings of every block of one diffusers transformer, for videos of one size; all start at zero.

    Attributes:
        time:  (blocks, T, C), added to the inputs of q and k at every place of a time step.
        place: (blocks, H*W, C), added to the input of v at every time step.
    """

    def __init__(self, transformer: nn.Module, grid: tuple[int, int, int]):
        """grid: token grid (T, H, W) of the source, `DiTSpec.grid(latents.shape)`."""
        super().__init__()
        spec = spec_for(transformer)
        self.grid = tuple(grid)
        self.time = nn.Parameter(torch.zeros(spec.num_blocks, grid[0], spec.dim))
        self.place = nn.Parameter(torch.zeros(spec.num_blocks, grid[1] * grid[2], spec.dim))

    @contextmanager
    def attached_to(self, transformer: nn.Module, strength: float = 1.0) -> Iterator[None]:
        """Add the embeddings, times `strength`, for the time of the context.

        The place embeddings act only while the module is in training mode (`train()`), as they carry the source's
        layout and looks: `eval()`, as for sampling, leaves them out.
        Raises: ValueError if the model is another one, or, at a call, if the video has another size.
        """
        transformer = unwrapped(transformer)
        spec = spec_for(transformer)
        if spec.layout != "diffusers" or self.time.shape[::2] != (spec.num_blocks, spec.dim):
            blocks, _, dim = self.time.shape
            raise ValueError(f"these embeddings are for {blocks} blocks of {dim} channels, not for {spec.describe()}")
        places = projections(spec)
        if any(place.fused for place in places.values()):
            raise ValueError(f"{spec.name} computes q, k and v in one layer: these embeddings go to q and k alone")
        handles = [
            transformer.get_submodule(place.path).register_forward_pre_hook(
                partial(self._with_embedding, spec, strength, block, kind)
            )
            for (block, kind), place in (places.items() if strength else ())
            if kind in ("qkv" if self.training else "qk")
        ]
        try:
            with overridden([(transformer, partial(self._checked, spec, transformer.forward))]):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _checked(self, spec: DiTSpec, forward: Forward, *args, **kwargs):
        """The transformer's forward, once its call is known to have the size. Raises: ValueError if not."""
        if (grid := call_grid(spec, args, kwargs)) != self.grid:
            raise ValueError(f"these embeddings are for a video of {self.grid} tokens (T, H, W), not {grid}")
        return forward(*args, **kwargs)

    def _with_embedding(self, spec: DiTSpec, strength: float, block: int, kind: str, _module: nn.Module, args: tuple):
        """A forward pre-hook: a projection's arguments with the embedding added to the video's tokens."""
        x = args[0]
        time, height, width = self.grid
        if kind == "v":
            embedding = self.place[block].repeat(time, 1)
        else:
            embedding = self.time[block].repeat_interleave(height * width, dim=0)
        video = video_slice(spec.attention, x.shape[1], self.grid, spec.name)
        rows = (0, 0, video.start, x.shape[1] - video.stop)
        return (x + strength * nn.functional.pad(embedding, rows).to(x), *args[1:])

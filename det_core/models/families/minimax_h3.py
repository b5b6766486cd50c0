"""MiniMax H3: one packed sequence of text, keyframes or references, sound and, last, the video; its native layout.

The model takes one sequence at a time, so its tokens are (tokens, channels). Its codec joins 17k+5 frames to 5k+2
latent ones, of 1, 4, 4, 4, 4 frames over and over. The paper has no H3 experiment: the training values are those it
uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward, overridden, replaced
from .family import Costs, Family
from .placing import Placing
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap, unwrapped

TIME_STEP = 5 / 3  # of the time axis, to a pixel frame
CAUTION = (
    "MiniMax H3 is distilled to need no guidance, and its latent frames hold 1 or 4 frames by turns. Adapters train "
    "and apply here, but nothing is known of how much motion transfers; expect training to soften its pictures."
)


class MiniMaxH3(Family):
    name = "minimax_h3"
    title = "MiniMax H3"
    diffusers_class = ""  # not supported in that layout
    pipeline = ""
    native_modules = ("video_patch_proj", "audio_patch_proj", "blocks.0.attn.qkv_proj")
    diffusers_marks = ()
    native_marks = ("video_patch_proj.weight", "audio_patch_proj.weight")
    rules = ()
    stacks = ((Stack.fused("blocks", "attn.qkv_proj", 3, "attn.out_proj"),) * 2,)
    costs = Costs(15.2, 12.1, 3.0, 13.7, 0, 0)  # on ComfyUI's own modules, without sound; its attention is 4/3 wide
    half_costs = Costs(18.7, 10.5, 3.0, 17.2, 0, 0)
    in_place = True
    one_at_a_time = True

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        paths = [f"blocks.{i}.attn" for i in range(len(model.blocks))]
        return DiTSpec(
            family=self,
            layout=layout,
            dim=model.hidden_size,
            taps=tuple(Tap(path, path, tokens="last") for path in paths),
            patch=tuple(model.patch_size),
            frames=FrameMap((1, 4), (4, 4, 4, 1, 4)),
            spatial_compression=16,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(cfg=1.0, shift=12.0, width=1344, height=768, frames=124, fps=24.0, sample_steps=8),
            attention="last",
            inner_dim=model.blocks[0].attn.heads * model.blocks[0].attn.head_dim,
            caution=CAUTION,
        )

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        """Rows and columns stay as they are: the model spreads any number of them over the same range."""
        rope = partial(_placed_rope, dit.rope_freqs, spec, placing)
        with overridden([(dit, partial(_sized, dit.forward, spec, placing))]), replaced(dit, "rope_freqs", rope):
            yield {}

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        return unwrapped(transformer).blocks[0].mlp.fc1.out_features / spec.dim


def _sized(forward: Forward, spec: DiTSpec, placing: Placing, streams: Any, *args: Any, **kwargs: Any):
    """The model's forward, whose video is the first of its `streams`, once its size is known to be the placed one."""
    placing.meet(spec.grid(streams[0].shape))
    return forward(streams, *args, **kwargs)


def _placed_rope(own: Forward, spec: DiTSpec, placing: Placing, position_ids: torch.Tensor, *args: Any):
    """Rotary angles of a packed sequence (rows, 3), whose last rows are the video's, at their times."""
    time, height, width = placing.grid
    if 0 in placing.tokens:
        first = position_ids.shape[0] - time * height * width
        starts = _starts(spec.frames, placing.tokens[0]) * TIME_STEP
        position_ids = position_ids.clone()
        position_ids[first:, 0] = position_ids[first, 0] + starts.repeat_interleave(height * width).to(position_ids)
    return own(position_ids, *args)


def _starts(frames: FrameMap, at: torch.Tensor) -> torch.Tensor:
    """The pixel frame at which each latent frame of `at` begins, (T,); between whole numbers it lies between theirs."""
    spans = frames.spans(int(at.max()) + 2)
    whole, share = at.floor().long(), at - at.floor()
    begin = torch.tensor([span.start for span in spans], dtype=at.dtype)
    return begin[whole] + share * (begin[whole + 1] - begin[whole])


MINIMAX_H3 = MiniMaxH3()

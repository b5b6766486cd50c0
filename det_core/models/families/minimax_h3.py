"""MiniMax H3: one packed sequence of text, keyframes or references, sound and, last, the video; its native layout.

The model takes one sequence at a time, so its tokens are (tokens, channels). Its codec joins 17k+5 frames to 5k+2
latent ones, of 1, 4, 4, 4, 4 frames over and over. The paper has no H3 experiment: the training values are those it
uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

from torch import nn

from ...media.frame_map import FrameMap
from .family import Costs, Family
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap, unwrapped

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
    costs = Costs(13.6, 5.9, 3.0, 13.9, 0, 0)  # of Wan; not measured here
    half_costs = Costs(19.7, 7.9, 3.0, 21.0, 30.0, 1.0)
    in_place = True

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
            caution=CAUTION,
        )

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        return unwrapped(transformer).blocks[0].mlp.fc1.out_features / spec.dim


MINIMAX_H3 = MiniMaxH3()

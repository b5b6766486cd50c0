"""LTX-2 (2.0, 2.3, 2.5): LTX-Video with a stream of sound beside the video's, in its native layout.

Self-attention of a block's video stream sees video tokens only, guide frames after them; sound has attention of its own
and crosses over. The paper has no LTX experiment: the training values are those it uses for CogVideoX, the sampling
ones the model's own.
"""

from __future__ import annotations

from torch import nn

from ...media.frame_map import FrameMap
from .family import Costs, Family
from .ltx import LTX
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap


class LTX2(Family):
    name = "ltx2"
    title = "LTX-2"
    diffusers_class = ""  # not supported in that layout
    pipeline = ""
    native_modules = ("patchify_proj", "audio_patchify_proj", "transformer_blocks.0.attn1")
    diffusers_marks = ()
    native_marks = ("patchify_proj.weight", "audio_patchify_proj.weight")
    rules = ()
    stacks = ((Stack.plain("transformer_blocks", "attn1"),) * 2,)
    costs = Costs(13.2, 4.2, 3.0, 16.4, 0, 0.3)  # on ComfyUI's own modules, without sound
    half_costs = Costs(19.3, 6.2, 3.0, 22.5, 0, 0)
    in_place = True
    place_native = LTX.place_native

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        paths = [f"transformer_blocks.{i}.attn1" for i in range(len(model.transformer_blocks))]
        return DiTSpec(
            family=self,
            layout=layout,
            dim=model.inner_dim,
            taps=tuple(Tap(path, path, tokens="first") for path in paths),
            patch=(1, 1, 1),
            frames=FrameMap((1,), (8,)),
            spatial_compression=32,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(cfg=1.0, shift=2.37, width=768, height=512, frames=97, fps=25.0, sample_steps=8),
            attention="first",
            version=_version(model),
        )


def _version(model: nn.Module) -> str:
    """2.5 has no biases in its MLPs; 2.3 before it brought modulated prompts."""
    if not getattr(model, "ff_bias", True):
        return "2.5"
    return "2.3" if getattr(model, "cross_attention_adaln", False) else "2.0"


LTX_2 = LTX2()

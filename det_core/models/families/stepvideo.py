"""Step-Video-T2V: 48 equal blocks; self-attention over video tokens only, text comes in by cross-attention.

Neither diffusers nor ComfyUI has the model: it is det_core's own module, with the published names in both layouts. The
layouts differ in how it is called: "diffusers" as the module itself is (latents (B, T, C, H, W), time from noise 0 to
data 1, a velocity that points to the data), "native" as ComfyUI calls a model.

The training and sampling values are the paper's (supplement): kernels of 256 and 5 frames, learning rate 2e-5, 100
warm-up steps, the last 32 of 48 blocks dropped, 50 steps, guidance 9. The paper's 49 frames cannot be encoded; 51 can.
The flow shift of 13 is the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..overriding import Forward, overridden
from ..stepvideo.files import PIPELINE
from ..stepvideo.vae import FRAMES
from .family import Costs, Family
from .placing import Placing
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap, has_modules, unwrapped

STACK = Stack.fused("transformer_blocks", "attn1.wqkv", 3, "attn1.wo", by_head=True)


class StepVideo(Family):
    name = "stepvideo"
    title = "Step-Video-T2V"
    diffusers_class = ""
    pipeline = PIPELINE  # opened by `stepvideo_folder`: diffusers has none
    native_modules = ("transformer_blocks.0.attn1.wqkv", "caption_projection.linear_1", "clip_projection")
    diffusers_marks = ("transformer_blocks.0.attn1.wqkv.weight", "clip_projection.weight")
    native_marks = diffusers_marks
    rules = ()
    stacks = ((STACK, STACK),)
    costs = Costs(13.1, 6.9, 3.0, 13.5, 16.5, 0)
    half_costs = Costs(15.8, 8.9, 3.0, 16.5, 21.9, 0)

    def layout_of(self, model: nn.Module) -> Layout | None:
        return model.layout if has_modules(model, *self.native_modules) else None

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        count = len(model.transformer_blocks)
        return DiTSpec(
            family=self,
            layout=layout,
            dim=model.num_heads * model.head_width,
            taps=tuple(Tap(f"transformer_blocks.{i}.attn1", f"transformer_blocks.{i}.attn1") for i in range(count)),
            patch=(1, 1, 1),
            frames=FRAMES,
            spatial_compression=16,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(
                fps=25.0,
                mid_dim=256,
                kernel_size=5,
                lr=2e-5,
                warmup=100,
                drop_fraction=2 / 3,
                cfg=9.0,
                shift=13.0,
                frames=51,
                height=512,
                width=768,
            ),
            head_width=model.head_width,
        )

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        shape = (args[0] if args else kwargs["latents"]).shape
        return (shape[1 if spec.layout == "diffusers" else 2], *shape[3:])

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        return -transformer(x_t.transpose(1, 2), 1 - t / 1000, **cond).transpose(1, 2)

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        return unwrapped(transformer).transformer_blocks[0].ff.net[2].in_features / spec.dim

    def times(self, scheduler: Any, steps: int, grid: tuple[int, int, int]) -> dict[str, Any]:
        return {"sigmas": [1 - i / steps for i in range(steps)]}

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        return [(transformer, partial(_placed, transformer.forward, placing))]

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        with overridden([(dit, partial(placing.sized, partial(_placed, dit.forward, placing)))]):
            yield {}


def _placed(forward: Forward, placing: Placing, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The module's forward with its tokens where `placing` says, which has read the grid of the call."""
    positions = [placing.tokens.get(axis, range(size)) for axis, size in enumerate(placing.grid)]
    return forward(*args, positions=tuple(positions), **kwargs)


STEP_VIDEO = StepVideo()

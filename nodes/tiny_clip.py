"""A source clip for the embedded model, so that a first graph needs no file."""

from __future__ import annotations

import torch
from comfy_api.latest import io

MOTIONS = ["loop", "arc", "bounce", "zigzag", "spiral", "sine", "figure_eight", "staircase", "heart"]


class DeTTinyClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        from ..det_core.models.embedded.corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS, SHAPES

        return io.Schema(
            node_id="DeTTinyClip",
            display_name="Embedded Model: Source Clip (DeT)",
            category="DeT/loaders",
            description=(
                "Draw a short clip of the embedded model's kind (9 frames, 64x64 pixels): a shape that moves along "
                "a path."
            ),
            search_aliases=["demo clip", "sample video", "toy video"],
            inputs=[
                io.Combo.Input(
                    "motion",
                    options=MOTIONS,
                    default="loop",
                    tooltip="The path. figure_eight, staircase and heart are kinds the model never saw in training.",
                ),
                io.Combo.Input("colour", options=list(COLOURS), default="red", tooltip="Colour of the shape."),
                io.Combo.Input("shape", options=list(SHAPES), default="circle", tooltip="The shape that moves."),
                io.Combo.Input(
                    "background", options=list(BACKGROUND_COLOURS), default="navy", tooltip="Colour of the background."
                ),
                io.Combo.Input(
                    "pattern", options=list(PATTERNS), default="plain", tooltip="Pattern of the background."
                ),
                io.Int.Input(
                    "clip_seed", default=29, min=0, max=2**31 - 1, tooltip="Turns, scales and places the path."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The clip, 9 frames."),
                io.String.Output(
                    display_name="caption", tooltip="Its caption: the shape and the background, not the motion."
                ),
            ],
        )

    @classmethod
    def execute(cls, motion, colour, shape, background, pattern, clip_seed) -> io.NodeOutput:
        from ..det_core.models.embedded.corpus import Scene, make_clip

        scene = Scene(colour, shape, background, pattern)
        clip = make_clip(scene, motion, torch.Generator().manual_seed(clip_seed))
        return io.NodeOutput(clip.frames, scene.caption)

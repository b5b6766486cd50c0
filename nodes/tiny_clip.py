"""A source clip for the embedded models, so that a first graph needs no file."""

from __future__ import annotations

import torch
from comfy_api.latest import io

PATHS = ["loop", "arc", "bounce", "zigzag", "spiral", "sine", "figure_eight", "staircase", "heart"]
CAMERAS = ["orbit", "breathe", "roll"]
GAITS = ["salute", "windmill", "stretch"]
FIGURES = ["walker", "bird"]


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
                    options=[*PATHS, *CAMERAS, *GAITS],
                    default="loop",
                    tooltip=(
                        "The path. figure_eight, staircase and heart are kinds the model never saw in training. For "
                        "the small world also a camera (orbit, breathe, roll: take the checkered pattern, which shows "
                        "it) and limbs (salute, windmill, stretch: take the walker)."
                    ),
                ),
                io.Combo.Input("colour", options=list(COLOURS), default="red", tooltip="Colour of the shape."),
                io.Combo.Input(
                    "shape",
                    options=[*SHAPES, *FIGURES],
                    default="circle",
                    tooltip="The shape that moves. walker and bird are known to the small world alone.",
                ),
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
        generator = torch.Generator().manual_seed(clip_seed)
        if motion in PATHS and shape not in FIGURES:
            from ..det_core.models.embedded.corpus import Scene, make_clip

            scene = Scene(colour, shape, background, pattern)
            return io.NodeOutput(make_clip(scene, motion, generator).frames, scene.caption)
        if motion in GAITS and shape != "walker":
            raise ValueError(f"{motion} moves arms and legs, and a {shape} has none: choose the shape walker")
        from ..det_core.models.embedded.world.corpus import render
        from ..det_core.models.embedded.world.scene import Thing, World
        from ..det_core.models.embedded.world.unseen import unseen_motion

        category = "camera" if motion in CAMERAS else "articulated" if motion in GAITS else "single"
        world = World((Thing(colour, shape),), background, pattern)
        return io.NodeOutput(render([world], unseen_motion(category, motion, [shape], generator))[0], world.caption)

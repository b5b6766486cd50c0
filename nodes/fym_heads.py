"""Tell spatial from temporal attention heads."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io, ui

from ..det_core.fym.classify import classify_heads
from ..det_core.fym.head_picture import draw_heads
from ..det_core.fym.heads import RULES
from ._comfy.display.preview import DrawsBar, image_of
from ._comfy.sockets.checked import FymHeads
from ._comfy.sockets.inputs import seed_input, source_inputs
from ._comfy.training.head_reading import watched_model
from ._comfy.training.prepared import prepared


class FYMClassifyHeads(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FYMClassifyHeads",
            display_name="Classify Heads (Follow-Your-Motion)",
            category="DeT/Follow-Your-Motion",
            description=(
                "Find out which attention heads of a video model look within frames (spatial) and which across them "
                "(temporal), by watching it on your source video. Takes a few evaluations of the model."
            ),
            search_aliases=["attention heads", "spatial temporal heads", "follow your motion", "fym", "head map"],
            inputs=[
                *source_inputs("The base model; the one that the LoRAs will be trained on."),
                io.Combo.Input(
                    "rule",
                    options=list(RULES),
                    default="balanced",
                    tooltip=(
                        "Which heads count as temporal. balanced: the half that leans most to time. paper: all but "
                        "clearly spatial ones. code (the authors' program): only clearly temporal ones."
                    ),
                ),
                io.Int.Input(
                    "draws",
                    default=3,
                    min=1,
                    max=100,
                    tooltip="Evaluations of the model, each with its own noise. More: steadier scores, longer.",
                ),
                io.Float.Input(
                    "noise_level",
                    default=900.0,
                    min=1.0,
                    max=999.0,
                    step=1.0,
                    tooltip="How noisy the video is that the model looks at: 0 is clean, 1000 is noise alone.",
                ),
                seed_input("head_seed", "head map"),
            ],
            outputs=[
                FymHeads.Output(display_name="heads", tooltip="The head map, for Train Motion LoRA."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="One cell a head, blocks from left to right: blue spatial, red temporal, dots by the rule.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, latents, caption, rule, draws, noise_level, head_seed) -> io.NodeOutput:
        job = prepared(model, latents, caption).for_reading()
        bar = DrawsBar(draws)
        with job.trainable(single_frames=True) as (denoiser, x0):
            watch = partial(watched_model, denoiser)
            settings = {"t": noise_level, "draws": draws, "rule": rule, "seed": head_seed}
            heads = classify_heads(denoiser, x0, {}, **settings, watch=watch, on_draw=bar)
        picture = image_of(draw_heads(heads))
        return io.NodeOutput(heads, picture, ui=ui.PreviewImage(picture, cls=cls))

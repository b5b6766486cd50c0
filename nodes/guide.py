"""Guide a MODEL by the motion of a source video, without training."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.guidance.guide import SHARE, Plan
from ..det_core.guidance.losses import LOSSES
from ..det_core.guidance.reference import subject_cells
from ._comfy.loading.model_spec import model_spec
from ._comfy.sampling.guidance import guide_motion
from ._comfy.sockets.checked import latent_tracks, video_channels, video_latents


class DeTGuideMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTGuideMotion",
            display_name="Guide Motion, no training (DeT)",
            category="DeT",
            description=(
                "Make a MODEL move as a source video does, without training: in the first fifth of the sampling the "
                "latents are moved until one block of the model sees the source's motion. Works with any sampler, with "
                "LoRAs and with motion adapters. The MODEL that comes in is not changed."
            ),
            search_aliases=["motion transfer", "motion guidance", "training free", "ditflow", "flowmotion", "moft"],
            inputs=[
                io.Model.Input("model", tooltip="The base model, possibly with LoRAs and motion adapters."),
                io.Latent.Input(
                    "source",
                    tooltip=(
                        "The source video, encoded with the base model's VAE at the size and length of the video to be "
                        "made, or what Load Motion read."
                    ),
                ),
                io.Conditioning.Input(
                    "empty_prompt",
                    tooltip="An encoded empty prompt: the source is read with it, so that no words are added.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip=(
                        "Factor on how far the latents are moved. Lower: looser motion, freer picture. 0 is the base "
                        "model exactly."
                    ),
                ),
                io.Combo.Input(
                    "guide_by",
                    options=list(LOSSES),
                    default="features",
                    tooltip=(
                        "features: what changes in one block's tokens. flow: where its attention looks (DiTFlow). "
                        "latents: the predicted clean latents (FlowMotion), which needs no gradient: for weights that "
                        "let none through, such as GGUF."
                    ),
                ),
                io.Tracks.Input(
                    "tracks",
                    optional=True,
                    tooltip="Tracks of the source's subject: guide only where it passes, and leave the rest free.",
                ),
                io.Int.Input(
                    "updates",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="How often the latents are moved, in all. 0 takes the model's own (4 for features).",
                ),
                io.Float.Input(
                    "end_percent",
                    default=SHARE,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Where in the sampling guidance ends. The motion is decided early.",
                ),
                io.Int.Input(
                    "block",
                    default=-1,
                    min=-1,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="The block that is read. -1 takes the model's own, the last of its first half.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Compute blocks twice instead of keeping their inside: far less VRAM, the same result.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The MODEL under guidance, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        source,
        empty_prompt,
        strength,
        guide_by,
        tracks=None,
        updates=0,
        end_percent=SHARE,
        block=-1,
        gradient_checkpointing=True,
    ) -> io.NodeOutput:
        spec = model_spec(model)
        z = video_latents(source, video_channels(model), spec)
        subject = (
            source.get("det_subject") if tracks is None else subject_cells(latent_tracks(tracks, z, spec), z.shape)
        )
        where = None if subject is None else subject.float()
        plan = Plan.for_spec(
            spec,
            guide_by,
            strength=strength,
            block=None if block < 0 else block,
            updates=updates or None,
            share=end_percent,
        )
        return io.NodeOutput(
            guide_motion(model, z, empty_prompt, plan, spec, where=where, checkpointing=gradient_checkpointing)
        )

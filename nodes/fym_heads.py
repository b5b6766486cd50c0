"""Tell spatial from temporal attention heads."""

from __future__ import annotations

import dataclasses

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io, ui

from ..det_core.fym.classify import classify_heads
from ..det_core.fym.head_picture import draw_heads
from ..det_core.fym.heads import RULES
from ..det_core.models.compute.memory import mlp_ratio_of, training_memory
from ._comfy.apply import has_adapter, model_spec
from ._comfy.head_reading import watched_model
from ._comfy.lora import FymHeads
from ._comfy.memory import check_fits
from ._comfy.sockets import noise_mask_of, video_channels, video_latents
from ._comfy.training import trainable


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
                io.Model.Input("model", tooltip="The base model; the one that the LoRAs will be trained on."),
                io.Latent.Input("latents", tooltip="The source video, encoded with the base model's VAE. One video."),
                io.Conditioning.Input(
                    "caption", tooltip="The encoded caption of the source. Name what is seen, not how it moves."
                ),
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
                io.Int.Input(
                    "head_seed", default=0, min=0, max=2**31 - 1, tooltip="The same seed gives the same head map."
                ),
            ],
            outputs=[
                FymHeads.Output(display_name="heads", tooltip="The head map, for Train Motion LoRA."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="One cell a head, blocks from left to right: blue spatial, red temporal, dots by the rule.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, latents, caption, rule, draws, noise_level, head_seed) -> io.NodeOutput:
        spec = model_spec(model)
        if has_adapter(model):
            raise ValueError("this MODEL has a motion adapter on it: classify the heads of the base model")
        z = video_latents(latents, video_channels(model), spec)
        needed = training_memory(  # of one block: nothing is kept for a backward
            dataclasses.replace(spec, taps=spec.taps[:1]),
            z.shape,
            policy="full",
            dtype=model.model.get_dtype_inference(),
            mlp_ratio=mlp_ratio_of(model.model.diffusion_model, spec),
            parameters=0,
        ).total
        check_fits(needed, model, spec, True)
        bar = comfy.utils.ProgressBar(draws, node_id=cls.hidden.unique_id)

        def shown(done: int, total: int) -> None:
            mm.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)

        given = {"mask": noise_mask_of(latents), "single_frames": True}
        with trainable(model, caption, z, spec, needed, False, **given) as (denoiser, x0):
            heads = classify_heads(
                denoiser,
                x0,
                {},
                t=noise_level,
                draws=draws,
                rule=rule,
                seed=head_seed,
                watch=lambda scores: watched_model(denoiser, scores),
                on_draw=shown,
            )
        picture = torch.from_numpy(np.asarray(draw_heads(heads))).float()[None] / 255
        return io.NodeOutput(heads, picture, ui=ui.PreviewImage(picture, cls=cls))

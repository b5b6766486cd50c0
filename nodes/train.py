"""Train a motion adapter on one source video."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from comfy_api.latest import io, ui

from ..det_core.adapter.motion_adapter import MotionAdapter
from ..det_core.media.card import card
from ..det_core.models.families import DiTSpec
from ..det_core.models.noise import span_of
from ..det_core.training.config import TrainConfig
from ..det_core.training.loop import train_motion_adapter
from ._comfy.display.preview import TrainingView
from ._comfy.loading import paths
from ._comfy.loading.base import expert_of
from ._comfy.sockets.checked import DetAdapter, video_frames
from ._comfy.sockets.inputs import base_inputs, learning_rate_input, preview_inputs, run_inputs, source_inputs
from ._comfy.training.caption import HIDDEN, caption_caution, caption_words
from ._comfy.training.keeper import Keeper
from ._comfy.training.prepared import Prepared, prepared
from ._comfy.training.runs import load_weights, resume_is_known, saved_run
from ._comfy.training.sampler import Sampler
from ._comfy.training.settings import PRESET_NAMES, chosen_config, in_words, metadata

logger = logging.getLogger(__name__)


class DeTTrainMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTrainMotionAdapter",
            display_name="Train Motion Adapter (DeT)",
            category="DeT",
            description=(
                "Learn the motion of one source video (DeT, arXiv 2503.17350). The MODEL is not changed. Cancel keeps "
                "the last completed step, and what is trained already is loaded, not trained again. Models that make "
                "sound are trained without it and sampled with it."
            ),
            search_aliases=["train motion lora", "motion transfer training", "det train", "motion customization"],
            inputs=[
                *source_inputs(),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip=(
                        "Training steps in all. More: closer motion, later also the look of the source. 0 takes the "
                        "model's own (500 in the paper)."
                    ),
                ),
                learning_rate_input("", "0.00001 for most large models, the paper's value"),
                io.Float.Input(
                    "tracking_weight",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip=(
                        "Weight of the tracking loss, used when TRACKS are connected. 0.1 is the paper's; more holds "
                        "the foreground's paths tighter."
                    ),
                ),
                *run_inputs("adapter", "my motion"),
                io.Tracks.Input(
                    "tracks",
                    optional=True,
                    tooltip=(
                        "Point tracks of the same frames (Track Video, or any node that gives TRACKS). Without them "
                        "there is no tracking loss."
                    ),
                ),
                *preview_inputs("Decodes the samples of the preview."),
                io.Int.Input(
                    "mid_dim",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Width of the temporal kernels. 0 takes the model's own (128 in the paper).",
                ),
                io.Int.Input(
                    "kernel_size",
                    default=0,
                    min=0,
                    max=15,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Latent frames a kernel sees; odd. 0 takes the model's own (3 for CogVideoX, 5 for "
                        "HunyuanVideo)."
                    ),
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESET_NAMES),
                    default="auto",
                    optional=True,
                    tooltip=(
                        "auto: the model's own settings; numbers that you set replace them. paper: the paper's, "
                        "whatever the numbers say. fast: as auto, a quarter of the training, no block dropped. low "
                        "VRAM: as auto, checkpointing on. custom: the numbers as they stand. The node shows what came "
                        "out."
                    ),
                ),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The frames that you encode, for the picture in the adapter's file.",
                ),
                *base_inputs(),
            ],
            hidden=HIDDEN,
            outputs=[
                DetAdapter.Output(display_name="adapter", tooltip="For Apply Motion Adapter and Save Motion Adapter."),
                io.LossMap.Output(display_name="losses", tooltip="Loss of every step, for Plot Loss Graph."),
            ],
        )

    @classmethod
    def validate_inputs(cls, run_name=None, resume=None) -> bool | str:
        name = run_name is None or paths.name_is_safe(run_name)
        return resume_is_known(resume) if name is True else name

    @classmethod
    def execute(
        cls,
        model,
        latents,
        caption,
        steps,
        learning_rate,
        tracking_weight,
        train_seed,
        run_name,
        resume,
        gradient_checkpointing,
        preview_every,
        tracks=None,
        vae=None,
        preview_prompt=None,
        preview_negative=None,
        mid_dim=0,
        kernel_size=0,
        preset="auto",
        frames=None,
        noise_range="auto",
        noise="uniform",
        empty_prompt=None,
        guidance=3.5,
        fps=0.0,
    ) -> io.NodeOutput:
        job = prepared(model, latents, caption, tracks).guided(empty_prompt, guidance)
        words = caption_words(cls)
        numbers = {"steps": steps, "lr": learning_rate, "mid_dim": mid_dim, "kernel_size": kernel_size}
        part, span = span_of(noise_range, expert=expert_of(model))
        own = {"tracking_weight": tracking_weight, "seed": train_seed, "noise": noise, "noise_span": span}
        config = chosen_config(preset, job.spec, numbers, **own)
        checkpointing = gradient_checkpointing or preset == "low VRAM"
        config = replace(config, checkpoint="full" if checkpointing else "none")
        run = saved_run(run_name, resume, config, job.source(*_looked_at(job, config)))
        view = TrainingView(config.steps)
        if run.finished:
            state = run.state
            with torch.inference_mode(False):
                adapter = MotionAdapter.create(
                    job.spec, config.mid_dim, config.kernel_size, drop_fraction=config.drop_fraction
                )
            load_weights(adapter, state)
            view.say(f"already trained: {state.step} steps, loaded {run.file.name}")
        else:
            job = job.for_steps(job.latents.shape, config, **config.kernel_shape)
            cautions = _cautions(job.spec, words)
            view.say(f"{in_words(config)}; {job.memory_in_words()}{cautions}")
            with job.trainable(job.latents) as (denoiser, x0):
                sampler = None
                if vae is not None and preview_prompt is not None and preview_every:
                    sampler = Sampler(denoiser, vae, preview_prompt, preview_negative, job.latents, train_seed)
                with Keeper(run, view, sampler, preview_every) as keeper:
                    result = train_motion_adapter(
                        denoiser,
                        x0,
                        job.text,
                        job.tracks,
                        config,
                        on_step=keeper,
                        resume=run.state,
                    )
                adapter, state = result.adapter.cpu(), result.state
            view.say(f"trained: {in_words(config)}; {keeper.where}{cautions}")
        told = ({"caption": words} if words else {}) | ({} if frames is None else card(video_frames(frames)))
        adapter.requires_grad_(False).metadata.update(metadata(config, state, job, part, fps) | told)
        losses = {"loss": state.losses["total"], **{k: v for k, v in state.losses.items() if k != "total"}}
        return io.NodeOutput(adapter, losses, ui=ui.PreviewImage(view.result(state.losses), cls=cls))


def _looked_at(job: Prepared, config: TrainConfig) -> tuple[float, ...]:
    """What a training looks at beside what every training does: the MODEL's schedule."""
    sampling = job.model.get_model_object("model_sampling")
    return (float(sampling.percent_to_sigma(0.5)),) if config.noise != "uniform" else ()


def _cautions(spec: DiTSpec, words: str) -> str:
    """What is strange about the base model and the caption, each on a line of its own."""
    cautions = (f"\n{spec.caution}" if spec.caution else "") + caption_caution(words)
    if cautions:
        logger.warning("%s", cautions.strip())
    return cautions

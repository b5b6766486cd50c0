"""Train a motion adapter on one source video."""

from __future__ import annotations

import dataclasses
import json
import logging

from comfy_api.latest import io, ui

from ..det_core import __version__
from ..det_core.models.compute.memory import mlp_ratio_of, training_memory
from ..det_core.training.loop import TrainConfig, TrainResult, check_resumable, train_motion_adapter
from ..det_core.training.state import TrainState
from ._comfy import paths
from ._comfy.apply import has_adapter, model_spec
from ._comfy.keeper import Keeper
from ._comfy.memory import check_fits
from ._comfy.preview import Sampler, TrainingView, loss_picture
from ._comfy.sockets import DetAdapter, check_track_length, noise_mask_of, tracks_of, video_channels, video_latents
from ._comfy.training import trainable

logger = logging.getLogger(__name__)


class DeTTrainMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTrainMotionAdapter",
            display_name="Train Motion Adapter (DeT)",
            category="DeT",
            description=(
                "Learn the motion of one source video (DeT, arXiv 2503.17350). The MODEL is not changed. Cancel "
                "keeps the last "
                "completed step: queue again with resume on to continue."
            ),
            search_aliases=["train motion lora", "motion transfer training", "det train", "motion customization"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The base model, from Load DiT (DeT) or Load Diffusion Model; LoRAs may be on it."
                ),
                io.Latent.Input("latents", tooltip="The source video, encoded with the base model's VAE. One video."),
                io.Conditioning.Input(
                    "caption",
                    tooltip="The encoded caption of the source. Name what is seen (subject, place), not how it moves.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip=(
                        "Training steps in all. More: closer motion, later also the look of the source. 0 takes "
                        "the model's own (500 in the paper)."
                    ),
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=1e-6,
                    round=1e-8,
                    tooltip=(
                        "Step size of AdamW. 0 takes the model's own (0.00001 for the large models, the paper's value)."
                    ),
                ),
                io.Float.Input(
                    "tracking_weight",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip=(
                        "Weight of the tracking loss, used when TRACKS are connected. 0.1 is the paper's; more "
                        "holds the foreground's paths tighter."
                    ),
                ),
                io.Int.Input(
                    "train_seed", default=0, min=0, max=2**31 - 1, tooltip="The same seed gives the same adapter."
                ),
                io.String.Input(
                    "run_name",
                    default="my motion",
                    tooltip=(
                        "Names the saved state of this training "
                        "(models/det_adapters/<run_name>.state.safetensors), written every 50 steps and on Cancel."
                    ),
                ),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    tooltip=(
                        "On: continue the saved run of this name exactly where it stopped (also after a restart; "
                        "steps may be larger). Off: start anew."
                    ),
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    tooltip=(
                        "Compute each block twice instead of keeping its inside: far less VRAM, about a third "
                        "slower. The result is the same."
                    ),
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=100000,
                    tooltip=(
                        "Steps between two samples in the preview, when vae and preview_prompt are connected. One "
                        "costs about as much as 10 steps. 0: none."
                    ),
                ),
                io.Tracks.Input(
                    "tracks",
                    optional=True,
                    tooltip=(
                        "Point tracks of the same frames (Track Video, or any node that gives TRACKS). Without "
                        "them there is no tracking loss."
                    ),
                ),
                io.Vae.Input("vae", optional=True, tooltip="Decodes the samples of the preview."),
                io.Conditioning.Input(
                    "preview_prompt",
                    optional=True,
                    tooltip="Prompt of the samples: a new subject shows what transfers.",
                ),
                io.Conditioning.Input(
                    "preview_negative",
                    optional=True,
                    tooltip="Negative prompt of the samples; without it they have no guidance.",
                ),
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
            ],
            outputs=[
                DetAdapter.Output(display_name="adapter", tooltip="For Apply Motion Adapter and Save Motion Adapter."),
                io.LossMap.Output(display_name="losses", tooltip="Loss of every step, for Plot Loss Graph."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, run_name=None) -> bool | str:
        return run_name is None or paths.name_is_safe(run_name)

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
    ) -> io.NodeOutput:
        if kernel_size and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}: use {kernel_size + 1}")
        spec = model_spec(model)
        if has_adapter(model):
            raise ValueError("this MODEL already has a motion adapter on it: train on the base model")
        z = video_latents(latents, video_channels(model), spec)
        points = None
        if tracks is not None:
            points = tracks_of(tracks, z.shape[-1] * spec.spatial_compression, z.shape[-2] * spec.spatial_compression)
            check_track_length(points, z.shape[2], spec)
        given = {"steps": steps, "lr": learning_rate, "mid_dim": mid_dim, "kernel_size": kernel_size}
        config = TrainConfig.for_spec(
            spec,
            tracking_weight=tracking_weight,
            seed=train_seed,
            **{name: value for name, value in given.items() if value},
        )
        needed = training_memory(
            spec,
            z.shape,
            policy="full" if gradient_checkpointing else "none",
            dtype=model.model.get_dtype_inference(),
            mid_dim=config.mid_dim,
            kernel_size=config.kernel_size,
            batch=config.batch,
            mlp_ratio=mlp_ratio_of(model.model.diffusion_model, spec),
        ).total
        check_fits(needed, model, spec, gradient_checkpointing)
        if spec.caution:
            logger.warning("%s", spec.caution)
        state_file = paths.state_path(run_name)
        if resume and not state_file.exists():
            raise ValueError(f"there is no saved run {run_name!r} to resume: switch resume off to start it")
        earlier = TrainState.load(state_file) if resume else None
        if earlier is not None:
            check_resumable(earlier, config)
        mask = noise_mask_of(latents)
        with trainable(model, caption, z, spec, needed, gradient_checkpointing, mask=mask) as (denoiser, x0):
            sampler = None
            if vae is not None and preview_prompt is not None and preview_every:
                sampler = Sampler(denoiser, vae, preview_prompt, preview_negative, z, train_seed)
            view = TrainingView(config.steps, cls.hidden.unique_id, earlier.step if earlier else 0)
            # The denoiser has the whole conditioning; its text goes along so that resuming checks it.
            text = {"caption": caption[0][0].clone()}
            with Keeper(state_file, view, sampler, preview_every) as keeper:
                result = train_motion_adapter(denoiser, x0, text, points, config, on_step=keeper, resume=earlier)
            keeper.run_done(result)
            adapter = result.adapter.cpu().requires_grad_(False)
        adapter.metadata.update(_metadata(config, result))
        picture = loss_picture(result.losses)
        losses = {"loss": result.losses["total"], **{k: v for k, v in result.losses.items() if k != "total"}}
        return io.NodeOutput(adapter, losses, ui=ui.PreviewImage(picture, cls=cls))


def _metadata(config: TrainConfig, result: TrainResult) -> dict[str, str]:
    losses = result.losses
    last = {name: next((v for v in reversed(values) if v == v), None) for name, values in losses.items()}
    return {
        "config": json.dumps(dataclasses.asdict(config)),
        "steps": str(len(losses["total"])),
        "losses": json.dumps({k: v for k, v in last.items() if v is not None}),
        "seed": str(config.seed),
        "source": json.dumps({"fingerprint": result.state.config["source"]}),
        "pack_version": __version__,
    }

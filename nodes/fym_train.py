"""Train the two LoRAs of Follow-Your-Motion on one source video."""

from __future__ import annotations

import logging

import torch
from comfy_api.latest import io, ui

from ..det_core.fym.motion_loss import MOTION_LOSSES
from ..det_core.fym.sparse import SPACINGS, sparse_count, sparse_latents
from ..det_core.fym.train import LoRAConfig, group_lora, train_lora
from ..det_core.models.compute.memory import mlp_ratio_of, training_memory
from ..det_core.training.loop import check_resumable
from ..det_core.training.state import TrainState
from ._comfy import paths
from ._comfy.apply import has_adapter, model_spec
from ._comfy.keeper import Keeper
from ._comfy.lora import (
    FymHeads,
    LoRASampler,
    encoded_stills,
    is_head_map,
    lora_model,
    still_examples,
)
from ._comfy.memory import check_fits
from ._comfy.preview import TrainingView, loss_picture
from ._comfy.sockets import noise_mask_of, video_channels, video_frames, video_latents
from ._comfy.training import trainable

logger = logging.getLogger(__name__)

STAGES = ("spatial", "temporal")
OWN = "the model's own"


class FYMTrainMotionLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FYMTrainMotionLoRA",
            display_name="Train Motion LoRA (Follow-Your-Motion)",
            category="DeT/Follow-Your-Motion",
            description=(
                "Learn one source video as two LoRAs (Follow-Your-Motion, arXiv 2506.05207): its look on the spatial "
                "heads, from single frames; then its motion on the temporal heads, from a few frames a step. The "
                "MODEL is not changed. Cancel keeps the last completed step: queue again with resume on to continue."
            ),
            search_aliases=["train motion lora", "follow your motion", "fym", "motion transfer training"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The base model, from Load DiT (DeT) or Load Diffusion Model; LoRAs may be on it."
                ),
                io.Latent.Input("latents", tooltip="The source video, encoded with the base model's VAE. One video."),
                io.Conditioning.Input(
                    "caption",
                    tooltip="The encoded caption of the source. Name what is seen (subject, place), not how it moves.",
                ),
                FymHeads.Input("heads", tooltip="From Classify Heads, of the same base model."),
                io.Int.Input(
                    "spatial_steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Steps on single frames. More: the first LoRA holds the look of the source better. 0 takes "
                    "the model's own.",
                ),
                io.Int.Input(
                    "temporal_steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Steps on moving frames. More: closer motion, later also the look of the source. 0 takes "
                    "the model's own.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=1e-6,
                    round=1e-8,
                    tooltip="Step size of AdamW in both stages. 0 takes the model's own (0.0001 for the large models).",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Rank of both LoRAs. More: more detail, larger files. 0 takes the model's own (32 for the "
                    "large models; the paper has 128).",
                ),
                io.Int.Input(
                    "sparse_frames",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="How many of the clip's latent frames a temporal step looks at. Fewer: faster, and less "
                    "exact motion. 0 takes half of them; the paper takes 5 of 21.",
                ),
                io.Int.Input(
                    "train_seed", default=0, min=0, max=2**31 - 1, tooltip="The same seed gives the same LoRAs."
                ),
                io.String.Input(
                    "run_name",
                    default="my motion lora",
                    tooltip="Names the saved state of this training (models/det_adapters/<run_name>.spatial and "
                    ".temporal), written every 50 steps and on Cancel.",
                ),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    tooltip="On: continue the saved run of this name exactly where it stopped (also after a restart). "
                    "Off: start anew.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    tooltip="Compute each block twice instead of keeping its inside: far less VRAM, about a third "
                    "slower. The result is the same.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=100000,
                    tooltip="Temporal steps between two samples in the preview, when vae and preview_prompt are "
                    "connected. One costs about as much as 10 steps on all frames. 0: none.",
                ),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The frames that you encode. With vae connected the spatial stage learns from every one of "
                    "them, encoded alone; otherwise from the latent frames that are a single frame.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="Encodes single frames, and decodes the preview's samples."),
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
                io.Combo.Input(
                    "motion_loss",
                    options=[OWN, *MOTION_LOSSES],
                    default=OWN,
                    optional=True,
                    advanced=True,
                    tooltip="Further loss of the temporal stage on changes between frames. code and signed compare "
                    "changes, debiased takes a frame away, none leaves it out.",
                ),
                io.Combo.Input(
                    "frame_spacing",
                    options=list(SPACINGS),
                    default="random",
                    optional=True,
                    advanced=True,
                    tooltip="How the sparse frames lie in the clip: random (other ones each step), or evenly: stride "
                    "(from a random start), ends (first to last), paper (stride, at the paper's positions).",
                ),
            ],
            outputs=[
                io.LoraModel.Output(
                    display_name="spatial_lora",
                    tooltip="How the source looks, for Load LoRA Model and Save LoRA Weights. Leave it away (or at "
                    "strength 0) for new looks.",
                ),
                io.LoraModel.Output(
                    display_name="temporal_lora",
                    tooltip="How the source moves, for Load LoRA Model (strength 1) and Save LoRA Weights.",
                ),
                io.LossMap.Output(
                    display_name="losses", tooltip="Loss of every step, spatial then temporal, for Plot Loss Graph."
                ),
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
        heads,
        spatial_steps,
        temporal_steps,
        learning_rate,
        rank,
        sparse_frames,
        train_seed,
        run_name,
        resume,
        gradient_checkpointing,
        preview_every,
        frames=None,
        vae=None,
        preview_prompt=None,
        preview_negative=None,
        motion_loss=OWN,
        frame_spacing="random",
    ) -> io.NodeOutput:
        spec = model_spec(model)
        if has_adapter(model):
            raise ValueError("this MODEL already has a motion adapter on it: train on the base model")
        dit = model.model.diffusion_model
        z = video_latents(latents, video_channels(model), spec)
        given = {"lr": learning_rate, "rank": rank}
        shared = {"seed": train_seed, **{name: value for name, value in given.items() if value}}
        own = {
            "spatial": {"steps": spatial_steps} if spatial_steps else {},
            "temporal": ({"steps": temporal_steps} if temporal_steps else {})
            | ({"motion_loss": motion_loss} if motion_loss != OWN else {}),
        }
        configs = {stage: LoRAConfig.for_stage(spec, stage, **shared, **own[stage]) for stage in STAGES}
        count = sparse_frames or sparse_count(z.shape[2], spec.patch[0])
        few = sparse_latents(z, count, frame_spacing, spec.patch[0])  # refuses what does not fit
        with torch.inference_mode(False):
            loras = {stage: group_lora(dit, is_head_map(heads), stage, configs[stage]) for stage in STAGES}
        needed = training_memory(
            spec,
            few.shape,
            policy="full" if gradient_checkpointing else "none",
            dtype=model.model.get_dtype_inference(),
            batch=configs["temporal"].batch,
            mlp_ratio=mlp_ratio_of(dit, spec),
            parameters=sum(p.numel() for lora in loras.values() for p in lora.parameters()),
        ).total
        check_fits(needed, model, spec, gradient_checkpointing)
        earlier = _earlier(run_name, resume, configs)
        stills = [z[:, :, i : i + 1] for i in range(z.shape[2] if spec.frames.even else 1)]
        if frames is not None and vae is not None:
            stills = encoded_stills(vae, video_frames(frames), z)
        given = {"mask": noise_mask_of(latents), "single_frames": True}
        with trainable(model, caption, z, spec, needed, gradient_checkpointing, **given) as (denoiser, x0):
            if frame_spacing == "paper" and denoiser.conditions.by_frame:
                raise ValueError(
                    "frame_spacing paper shows frames at other times than their own, and this conditioning "
                    "belongs to frames: use random, stride or ends"
                )
            real = model.model
            in_space = [real.process_latent_in(still.clone().to(x0)) for still in stills]
            examples = {
                "spatial": still_examples(in_space, spec),
                "temporal": sparse_latents(x0, count, frame_spacing, spec.patch[0]),
            }
            sampler = None
            if vae is not None and preview_prompt is not None and preview_every:
                sampler = LoRASampler(denoiser, vae, preview_prompt, preview_negative, z, train_seed)
            total = sum(configs[stage].steps for stage in STAGES)
            view = TrainingView(total, cls.hidden.unique_id, sum(state.step for state in earlier.values()))
            text = {"caption": caption[0][0].clone()}  # the denoiser has it; it goes along so that resuming checks it
            losses, done = {}, 0
            for stage in STAGES:
                temporal = stage == "temporal"
                state_file = _state_path(run_name, stage)
                with Keeper(state_file, view, sampler if temporal else None, preview_every, offset=done) as keeper:
                    result = train_lora(
                        denoiser,
                        loras[stage],
                        examples[stage],
                        text,
                        configs[stage],
                        frozen=loras["spatial"] if temporal else None,
                        on_step=keeper,
                        resume=earlier.get(stage),
                    )
                keeper.run_done(result)
                losses[stage] = result.losses["total"]
                done += configs[stage].steps
            files = [lora_model(loras[stage].cpu(), spec) for stage in STAGES]
        logger.info("motion LoRAs trained: %d spatial and %d temporal steps", *(len(losses[s]) for s in STAGES))
        picture = loss_picture(losses)
        losses = {"loss": losses["spatial"] + losses["temporal"], **losses}
        return io.NodeOutput(*files, losses, ui=ui.PreviewImage(picture, cls=cls))


def _state_path(run_name: str, stage: str):
    return paths.state_path(f"{paths.safe_name(run_name)}.{stage}")


def _earlier(run_name: str, resume: bool, configs: dict[str, LoRAConfig]) -> dict[str, TrainState]:
    """The saved states of a run by stage; none, and none left on the disk, for a new one.

    Raises: ValueError if they cannot be continued with `configs`.
    """
    files = {stage: _state_path(run_name, stage) for stage in STAGES}
    if not resume:
        for file in files.values():
            file.unlink(missing_ok=True)
        return {}
    if not files["spatial"].exists():
        raise ValueError(f"there is no saved run {run_name!r} to resume: switch resume off to start it")
    states = {stage: TrainState.load(file) for stage, file in files.items() if file.exists()}
    for stage, state in states.items():
        check_resumable(state, configs[stage])
    if "temporal" in states and states["spatial"].step != configs["spatial"].steps:
        raise ValueError(
            f"the temporal stage of {run_name!r} has begun, on a spatial LoRA of {states['spatial'].step} steps: "
            f"resume it with that many spatial_steps (not {configs['spatial'].steps}), or start anew with resume off"
        )
    return states

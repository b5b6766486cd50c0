"""Train the two LoRAs of Follow-Your-Motion on one source video."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import torch
from comfy_api.latest import io, ui

from ..det_core.fym.motion_loss import MOTION_LOSSES
from ..det_core.fym.sparse import SPACINGS, Examples, RandomFrames, sparse_count, sparse_latents
from ..det_core.fym.train import LoRAConfig, group_lora, train_lora
from ..det_core.lora.lora import LoRA
from ._comfy.display.preview import TrainingView
from ._comfy.loading import paths
from ._comfy.sockets.checked import FymHeads, head_map, video_frames
from ._comfy.sockets.inputs import learning_rate_input, preview_inputs, run_inputs, source_inputs
from ._comfy.sockets.lora_model import lora_model
from ._comfy.training.caption import HIDDEN, caption_caution, caption_words
from ._comfy.training.fingerprint import fingerprint
from ._comfy.training.keeper import NOT_KEPT, Keeper
from ._comfy.training.prepared import prepared
from ._comfy.training.runs import SavedRun, load_weights, resume_is_known, resume_of, saved_run, told
from ._comfy.training.sampler import LoRASampler
from ._comfy.training.stills import encoded_stills, still_examples

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
                "MODEL is not changed. Cancel keeps the last completed step, and what is trained already is loaded."
            ),
            search_aliases=["train motion lora", "follow your motion", "fym", "motion transfer training"],
            inputs=[
                *source_inputs(),
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
                learning_rate_input(" in both stages", "0.0001 for the large models"),
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
                *run_inputs(
                    "LoRAs",
                    "my motion lora",
                    sampled="Temporal steps",
                    cost="about as much as 10 steps on all frames",
                ),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The frames that you encode. With vae connected the spatial stage learns from every one of "
                    "them, encoded alone; otherwise from the latent frames that are a single frame.",
                ),
                *preview_inputs("Encodes single frames, and decodes the preview's samples."),
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
            hidden=HIDDEN,
            outputs=[
                io.LoraModel.Output(
                    display_name="spatial_lora",
                    tooltip="How the source looks, for Load LoRA Model and Save Motion LoRA. Leave it away (or at "
                    "strength 0) for new looks.",
                ),
                io.LoraModel.Output(
                    display_name="temporal_lora",
                    tooltip="How the source moves, for Load LoRA Model (strength 1) and Save Motion LoRA.",
                ),
                io.LossMap.Output(
                    display_name="losses", tooltip="Loss of every step, spatial then temporal, for Plot Loss Graph."
                ),
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
        job = prepared(model, latents, caption)
        configs = _configs(
            job.spec,
            {"lr": learning_rate, "rank": rank},
            {"spatial": spatial_steps, "temporal": temporal_steps},
            motion_loss,
            {"seed": train_seed, "checkpoint": "full" if gradient_checkpointing else "none"},
        )
        step, length = job.spec.patch[0], job.latents.shape[2]
        pick = partial(
            sparse_latents, count=sparse_frames or sparse_count(length, step), spacing=frame_spacing, patch=step
        )
        shape = pick(job.latents).shape  # refuses what does not fit
        with torch.inference_mode(False):
            dit = model.model.diffusion_model
            loras = {stage: group_lora(dit, head_map(heads), stage, configs[stage]) for stage in STAGES}
        video = video_frames(frames) if frames is not None and vae is not None else None
        runs = _saved_runs(run_name, resume, configs, job.source(heads.to_text(), video), pick.keywords)
        view = TrainingView(sum(config.steps for config in configs.values()))
        if all(run.finished for run in runs.values()):
            losses = {stage: _loaded(loras[stage], runs[stage]) for stage in STAGES}
            loaded = " and ".join(run.file.name for run in runs.values())
            view.say(f"already trained: {sum(run.state.step for run in runs.values())} steps, loaded {loaded}")
        else:
            parameters = sum(p.numel() for lora in loras.values() for p in lora.parameters())
            job = job.for_steps(shape, configs["temporal"], parameters=parameters)
            caution = caption_caution(caption_words(cls)) + unused_inputs(frames, vae, preview_prompt)
            view.say(f"{_in_words(configs, **pick.keywords)}; {job.memory_in_words()}{caution}")
            stills = job.single_frames() if video is None else encoded_stills(vae, video, job.latents)
            with job.trainable(single_frames=True) as (denoiser, x0):
                if frame_spacing == "paper" and denoiser.conditions.by_frame:
                    raise ValueError(
                        "frame_spacing paper shows frames at other times than their own, and this conditioning "
                        "belongs to frames: use random, stride or ends"
                    )
                sampler = None
                if vae is not None and preview_prompt is not None and preview_every:
                    sampler = LoRASampler(denoiser, vae, preview_prompt, preview_negative, job.latents, train_seed)
                in_space = [model.model.process_latent_in(still.clone().to(x0)) for still in stills]
                learn = partial(_learned, denoiser, job.text, loras, configs, runs, view)
                losses = {}
                losses["spatial"], look = learn("spatial", still_examples(in_space, job.spec), None, 0)
                losses["temporal"], motion = learn("temporal", pick(x0), sampler, preview_every)
            where = look if look == NOT_KEPT else motion
            view.say(f"trained: {_in_words(configs, **pick.keywords)}; {where}{caution}")
        files = [lora_model(loras[stage].cpu(), job.spec, configs[stage].steps) for stage in STAGES]
        picture = view.result(losses)
        losses = {"loss": losses["spatial"] + losses["temporal"], **losses}
        return io.NodeOutput(*files, losses, ui=ui.PreviewImage(picture, cls=cls))


def unused_inputs(frames, vae, preview_prompt) -> str:
    """A line for what is connected and does nothing, "" where all does something."""
    unused = ""
    if frames is not None and vae is None:
        unused = (
            "\nframes does nothing without vae: the look is learned from the latent frames that are a single frame, "
            "often the first alone; connect vae"
        )
    if vae is not None and frames is None and preview_prompt is None:
        unused = (
            "\nvae does nothing without frames or preview_prompt: connect frames, and the look is learned from each"
        )
    if unused:
        logger.warning("%s", unused.strip())
    return unused


def _configs(spec, given: dict, steps: dict[str, int], motion_loss: str, shared: dict) -> dict[str, LoRAConfig]:
    """The settings of both stages; what is 0 or `OWN` is the model's own."""
    shared = {**shared, **{name: value for name, value in given.items() if value}}
    own = {stage: {"steps": count} if count else {} for stage, count in steps.items()}
    if motion_loss != OWN:
        own["temporal"]["motion_loss"] = motion_loss
    return {stage: LoRAConfig.for_stage(spec, stage, **shared, **own[stage]) for stage in STAGES}


def _saved_runs(
    name: str, resume: str | bool, configs: dict[str, LoRAConfig], source: str, picked: dict
) -> dict[str, SavedRun]:
    """The saved run of each stage. The motion is learned on top of one spatial LoRA, so that counts as its source; and
    where it has to be resumed, it is the spatial one that has to be there: the motion may not have begun yet."""
    spatial = saved_run(name, resume, configs["spatial"], source, "spatial")
    settings = replace(configs["spatial"], checkpoint="auto")  # which changes no result
    beneath = fingerprint(source, told(settings), picked)
    mode, resume = "auto", resume_of(resume)
    if resume == "start anew" or (spatial.finished and paths.state_path(f"{paths.safe_name(name)}.temporal").exists()):
        mode = resume
    return {"spatial": spatial, "temporal": saved_run(name, mode, configs["temporal"], beneath, "temporal")}


def _loaded(lora: LoRA, run: SavedRun) -> list[float]:
    """The losses of a finished stage, whose weights `lora` gets."""
    load_weights(lora, run.state)
    return run.state.losses["total"]


def _learned(
    denoiser,
    text: dict[str, torch.Tensor],
    loras: dict[str, LoRA],
    configs: dict[str, LoRAConfig],
    runs: dict[str, SavedRun],
    view: TrainingView,
    stage: str,
    examples: Examples | RandomFrames,
    sampler: LoRASampler | None,
    sample_every: int,
) -> tuple[list[float], str]:
    """Train one stage, or load it if it is finished; its losses, and in words where it is kept."""
    run, temporal = runs[stage], stage == "temporal"
    if run.finished:
        return _loaded(loras[stage], run), f"kept as {run.file.name}"
    before = configs["spatial"].steps if temporal else 0
    with Keeper(run, view, sampler, sample_every, offset=before) as keeper:
        result = train_lora(
            denoiser,
            loras[stage],
            examples,
            text,
            configs[stage],
            frozen=loras["spatial"] if temporal else None,
            on_step=keeper,
            resume=run.state,
        )
    return result.losses["total"], keeper.where


def _in_words(configs: dict[str, LoRAConfig], count: int, spacing: str, patch: int) -> str:
    spatial, temporal = (configs[stage] for stage in STAGES)
    return (
        f"{spatial.steps} steps on the look, {temporal.steps} on the motion with {count} frames a step ({spacing}), "
        f"learning rate {temporal.lr:g}, rank {temporal.rank}, motion loss {temporal.motion_loss}"
    )

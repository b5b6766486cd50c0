"""Inputs that more than one node has, made once; what differs between the nodes are the arguments."""

from __future__ import annotations

from comfy_api.latest import io

from ....det_core.models.noise import NOISES, SPANS

RESUME = ("auto", "start anew", "must resume")  # a saved run, which `training.runs` looks for


def source_inputs(model: str = "The base model, from Load DiT (DeT) or Load Diffusion Model; LoRAs may be on it."):
    """What is learned from: model, latents, caption."""
    return [
        io.Model.Input("model", tooltip=model),
        io.Latent.Input("latents", tooltip="The source video, encoded with the base model's VAE. One video."),
        io.Conditioning.Input(
            "caption",
            tooltip="The encoded caption of the source. Name what is seen (subject, place), not how it moves.",
        ),
    ]


def file_inputs(default: str):
    """Where a node writes: name, overwrite."""
    return [
        io.String.Input(
            "name", default=default, tooltip="File name without .safetensors; with / it goes into a sub-folder."
        ),
        io.Boolean.Input(
            "overwrite",
            default=False,
            tooltip=(
                "Off: a name that is taken gets a number, unless that file holds the same already. On: the earlier "
                "file is replaced once the new one is whole."
            ),
        ),
    ]


def curve_input(name: str, what: str):
    """A socket for Curve Editor, without a widget of its own."""
    return io.Custom("CURVE").Input(
        name, optional=True, tooltip=f"{what} From Curve Editor, by height.", extra_dict={"forceInput": True}
    )


def seed_input(name: str, what: str):
    return io.Int.Input(name, default=0, min=0, max=2**31 - 1, tooltip=f"The same seed gives the same {what}.")


def learning_rate_input(stages: str, own: str):
    return io.Float.Input(
        "learning_rate",
        default=0.0,
        min=0.0,
        max=1.0,
        step=1e-6,
        round=1e-8,
        tooltip=f"Step size of AdamW{stages}. 0 takes the model's own ({own}).",
    )


def run_inputs(result: str, run_name: str, *, sampled: str = "Steps", cost: str = "about as much as 10 steps"):
    """How a training is kept and shown: train_seed, run_name, resume, gradient_checkpointing, preview_every."""
    return [
        seed_input("train_seed", result),
        io.String.Input(
            "run_name",
            default=run_name,
            tooltip=(
                "Names the saved states of this training, files of models/det_adapters that begin with it and end in "
                ".state.safetensors: one for each source and choice of settings, written every 50 steps and on Cancel."
            ),
        ),
        io.Combo.Input(
            "resume",
            options=list(RESUME),
            default="auto",
            tooltip=(
                "auto: what was trained under this name from the same source with the same settings is loaded, what "
                "was interrupted goes on, everything else is trained. start anew: train in any case. must resume: go "
                "on, or stop with an error."
            ),
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            tooltip=(
                "Compute each block twice instead of keeping its inside: far less VRAM, about a third slower. The "
                "result is the same."
            ),
        ),
        io.Int.Input(
            "preview_every",
            default=100,
            min=0,
            max=100000,
            tooltip=(
                f"{sampled} between two samples in the preview, when vae and preview_prompt are connected. One costs "
                f"{cost}. 0: none. Nothing of the preview changes what is learned."
            ),
        ),
    ]


def preview_inputs(vae: str = "Decodes the samples of the preview."):
    """What a sample is made of while training: vae, preview_prompt, preview_negative."""
    return [
        io.Vae.Input("vae", optional=True, tooltip=vae),
        io.Conditioning.Input(
            "preview_prompt", optional=True, tooltip="Prompt of the samples: a new subject shows what transfers."
        ),
        io.Conditioning.Input(
            "preview_negative",
            optional=True,
            tooltip="Negative prompt of the samples; without it they have no guidance.",
        ),
    ]


def base_inputs():
    """What follows from how the base model is sampled: noise_range, noise, empty_prompt, guidance, fps."""
    return [
        io.Combo.Input(
            "noise_range",
            options=["auto", *SPANS],
            default="auto",
            optional=True,
            tooltip=(
                "For Wan 2.2, whose two experts share the sampling: which one this is. auto: as the file's name says "
                "(high_noise, low_noise), otherwise all. high: sigma above 0.8, where motion and layout are decided: "
                "train this one first, it may be enough (on the embedded model it is). low: sigma below 0.92."
            ),
        ),
        io.Combo.Input(
            "noise",
            options=list(NOISES),
            default="uniform",
            optional=True,
            tooltip=(
                "uniform: every amount of noise as often, as in the paper. as sampled: as often as a sampler with this "
                "MODEL's shift meets it, for models of 4 to 8 steps; tracking then acts in the last two fifths of them."
            ),
        ),
        io.Conditioning.Input(
            "empty_prompt",
            optional=True,
            tooltip=(
                "For models that are distilled to need no guidance (MiniMax H3 and others sampled at cfg 1): the "
                "encoding of an empty prompt. The training then leaves their built-in guidance alone. One forward more "
                "a step."
            ),
        ),
        io.Float.Input(
            "guidance",
            default=3.5,
            min=1.0,
            max=20.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="How strong the guidance in the model is, with empty_prompt. Trainers of MiniMax H3 use 3 to 4.",
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=240.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Frames per second of the source as it is encoded (Fit Video gives it), for the adapter's file. 0: "
            "not known. It changes nothing.",
        ),
    ]

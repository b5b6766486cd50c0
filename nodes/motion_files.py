"""Save and load the motion of a source video, which no training made: one .safetensors file in models/det_motions."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.guidance.reference import MotionReference, describe_source, subject_cells
from ._comfy.loading import paths
from ._comfy.loading.model_spec import model_spec
from ._comfy.loading.saved import save_once
from ._comfy.sockets.checked import latent_tracks, video_channels, video_frames, video_latents
from ._comfy.sockets.inputs import file_inputs


class DeTSaveMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTSaveMotion",
            display_name="Save Motion, no training (DeT)",
            category="DeT",
            description=(
                "Write the motion of a source video into models/det_motions, where Load Motion finds it: for Guide "
                "Motion, which needs no training. A few MB; for this base model, size and length."
            ),
            search_aliases=["save motion", "motion reference", "export motion"],
            inputs=[
                io.Model.Input("model", tooltip="The base model whose VAE encoded the source."),
                io.Latent.Input("source", tooltip="The source video, encoded with the base model's VAE."),
                *file_inputs("my motion"),
                io.Tracks.Input(
                    "tracks",
                    optional=True,
                    tooltip="Tracks of the source's subject: kept, so that only where it passes is guided.",
                ),
                io.Image.Input("frames", optional=True, tooltip="The source's frames, for a picture in the file."),
                io.Float.Input(
                    "fps", default=8.0, min=1.0, max=240.0, step=0.001, optional=True, tooltip="Frames per second."
                ),
            ],
            outputs=[io.String.Output(display_name="name", tooltip="Name of the file, as Load Motion lists it.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return name is None or paths.name_is_safe(name, paths.MOTIONS)

    @classmethod
    def execute(cls, model, source, name, overwrite, tracks=None, frames=None, fps=8.0) -> io.NodeOutput:
        spec = model_spec(model)
        z = video_latents(source, video_channels(model), spec)
        subject = None if tracks is None else subject_cells(latent_tracks(tracks, z, spec), z.shape)
        about = {} if frames is None else describe_source(name, fps, video_frames(frames))
        motion = MotionReference(model.model.process_latent_in(z), spec.name, subject, about)
        known = {**about, "base_model": spec.name}
        return save_once(paths.MOTIONS, name, overwrite, motion.tensors(), known, motion.save)


class DeTLoadMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadMotion",
            display_name="Load Motion, no training (DeT)",
            category="DeT/loaders",
            description="Read a motion from models/det_motions, for Guide Motion. Press R after saving one.",
            search_aliases=["load motion", "motion reference loader"],
            inputs=[
                io.Model.Input("model", tooltip="The base model that it was saved for."),
                io.Combo.Input("name", options=paths.motion_names(), tooltip="A file of models/det_motions."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="source",
                    tooltip="For Guide Motion, with the subject's place if it was saved with tracks.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name, model=None) -> str:
        return paths.stamp(paths.motion_path(name))

    @classmethod
    def execute(cls, model, name) -> io.NodeOutput:
        reference = MotionReference.load(paths.motion_path(name))
        reference.check(model_spec(model))
        latent = {"samples": model.model.process_latent_out(reference.latents.float())}
        if reference.subject is not None:
            latent["det_subject"] = reference.subject
        return io.NodeOutput(latent)

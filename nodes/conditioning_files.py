"""Keep encoded prompts as files, so that a large text encoder runs once."""

from __future__ import annotations

from comfy_api.latest import io

from ._comfy.loading import paths
from ._comfy.loading.conditioning_file import load_conditioning, save_conditioning


class DeTSaveConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTSaveConditioning",
            display_name="Save Conditioning (DeT)",
            category="DeT",
            description=(
                "Write an encoded prompt into models/det_conditionings, where Load Conditioning finds it: a large text "
                "encoder then runs once, and never beside the DiT."
            ),
            search_aliases=["save prompt", "cache text encoder", "save conditioning"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="From CLIP Text Encode."),
                io.String.Input(
                    "name", default="my prompt", tooltip="File name; with / it goes into a sub-folder. Replaces a file."
                ),
            ],
            outputs=[io.String.Output(display_name="name", tooltip="The name, as Load Conditioning lists it.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return name is None or paths.name_is_safe(name, paths.CONDITIONINGS)

    @classmethod
    def execute(cls, conditioning, name: str) -> io.NodeOutput:
        path = next(paths.numbered_paths(paths.CONDITIONINGS, name))
        save_conditioning(path, conditioning)
        return io.NodeOutput(paths.shown_name(paths.CONDITIONINGS, path))


class DeTLoadConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadConditioning",
            display_name="Load Conditioning (DeT)",
            category="DeT/loaders",
            description="Load a prompt that Save Conditioning wrote; the text encoder is not needed.",
            search_aliases=["load prompt", "cached prompt", "load conditioning"],
            inputs=[
                io.Combo.Input(
                    "name", options=paths.conditioning_names(), tooltip="A file of models/det_conditionings."
                )
            ],
            outputs=[io.Conditioning.Output(tooltip="As it was saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        return str(paths.conditioning_path(name).stat().st_mtime_ns)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(load_conditioning(paths.conditioning_path(name)))

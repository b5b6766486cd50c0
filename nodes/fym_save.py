"""Save a LoRA where the LoRA loaders list it."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io

from ._comfy.loading import paths
from ._comfy.loading.saved import save_once
from ._comfy.sockets.inputs import file_inputs
from ._comfy.sockets.lora_model import write_lora


class FYMSaveMotionLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FYMSaveMotionLoRA",
            display_name="Save Motion LoRA (Follow-Your-Motion)",
            category="DeT/Follow-Your-Motion",
            description=(
                "Write a LoRA into models/loras, where Load LoRA lists it at once, with what is known of it: method, "
                "base model, settings, the steps that it was trained for."
            ),
            search_aliases=["save lora", "export lora", "fym"],
            inputs=[
                io.LoraModel.Input("lora", tooltip="From Train Motion LoRA: the look or the motion."),
                *file_inputs("my motion lora"),
            ],
            outputs=[io.String.Output(display_name="name", tooltip="Name of the file, as Load LoRA lists it.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return name is None or paths.name_is_safe(name, paths.LORAS)

    @classmethod
    def execute(cls, lora, name, overwrite) -> io.NodeOutput:
        metadata = getattr(lora, "metadata", {})
        more = f", {metadata['steps']} steps" if "steps" in metadata else ""
        return save_once(paths.LORAS, name, overwrite, lora, metadata, partial(write_lora, lora), more)

"""Save, load and look through motion adapters: one .safetensors file each, in models/det_adapters."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..det_core.adapter.motion_adapter import MotionAdapter
from ..det_core.media.card import THUMBNAIL, TITLE, card, picture_of
from ..det_core.models.families import format_blocks
from ..det_core.models.identity import KEY as IDENTITY
from ._comfy.display.notice import say
from ._comfy.display.preview import image_of
from ._comfy.loading import paths
from ._comfy.loading.library import found_motions, in_short, library_sheet
from ._comfy.loading.saved import save_once
from ._comfy.sockets.checked import DetAdapter
from ._comfy.sockets.inputs import file_inputs

HIDDEN = ("kept_blocks", IDENTITY, THUMBNAIL)  # of what a file says: nothing to read, or said in other words


class DeTSaveMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTSaveMotionAdapter",
            display_name="Save Motion Adapter (DeT)",
            category="DeT",
            description="Write a motion adapter into models/det_adapters, where Load Motion Adapter finds it at once.",
            search_aliases=["save motion lora", "export adapter"],
            inputs=[
                DetAdapter.Input("adapter", tooltip="The adapter to keep."),
                *file_inputs("my motion"),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What the source video shows, kept in the file for later. Does not change the adapter.",
                ),
                io.Image.Input(
                    "preview",
                    optional=True,
                    tooltip=(
                        "What the file is recognised by: best `drawn` of Track Video. Five frames of it are kept in "
                        "the file, small."
                    ),
                ),
                io.String.Input(
                    "license",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="A note on what may be done with the motion, kept in the file: whose video it is.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="name", tooltip="Name of the file, as Load Motion Adapter lists it.")
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return name is None or paths.name_is_safe(name)

    @classmethod
    def execute(cls, adapter, name, overwrite, caption="", preview=None, license="") -> io.NodeOutput:
        caption = caption.strip()
        told = card(preview, description=caption, license=license.strip()) | ({"caption": caption} if caption else {})
        clone = MotionAdapter(adapter.base_model, adapter.num_blocks, adapter.blocks)  # the same kernels, own metadata
        clone.metadata = adapter.metadata | told

        def write(path: Path) -> None:
            clone.metadata[TITLE] = path.stem
            clone.save(path)

        known = {**clone.metadata, "base_model": clone.base_model}
        return save_once(paths.ADAPTERS, name, overwrite, clone.state_dict(), known, write)


class DeTLoadMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadMotionAdapter",
            display_name="Load Motion Adapter (DeT)",
            category="DeT/loaders",
            description="Read a motion adapter from models/det_adapters. Press R after saving one to see it listed.",
            search_aliases=["load motion lora", "motion adapter loader"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=paths.adapter_names(),
                    tooltip="A file of models/det_adapters. An adapter works on the base model that it was trained on.",
                )
            ],
            outputs=[
                DetAdapter.Output(tooltip="The adapter, for Apply Motion Adapter."),
                io.String.Output(
                    display_name="about", tooltip="What the file says about itself: base model, source, caption, steps."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name) -> str:
        return paths.stamp(paths.adapter_path(name))

    @classmethod
    def execute(cls, name) -> io.NodeOutput:
        adapter = MotionAdapter.load(paths.adapter_path(name)).requires_grad_(False)
        lines = [f"base model: {adapter.describe()}", f"advised blocks: {format_blocks(adapter.keep)}"]
        lines += [f"{key}: {value}" for key, value in sorted(adapter.metadata.items()) if key not in HIDDEN]
        say("\n".join(in_short(adapter.metadata)))
        picture = picture_of(adapter.metadata)
        return io.NodeOutput(adapter, "\n".join(lines), ui=picture and ui.PreviewImage(image_of(picture), cls=cls))


class DeTMotionLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTMotionLibrary",
            display_name="Motion Library (DeT)",
            category="DeT/loaders",
            description=(
                "The saved motions at a glance: their pictures, sources, base models and captions. Only the heads of "
                "the files are read."
            ),
            search_aliases=["list motions", "browse adapters", "motion previews"],
            inputs=[
                io.String.Input(
                    "search",
                    default="",
                    tooltip="Show files with all of these words in their name, caption, source or base model.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="A row a motion."),
                io.String.Output(
                    display_name="names", tooltip="The names, a line each, as Load Motion Adapter has them."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, search) -> str:
        return repr([paths.stamp(path) for path in paths.adapter_paths().values()])

    @classmethod
    def execute(cls, search) -> io.NodeOutput:
        found = found_motions(search)
        sheet = image_of(library_sheet(found))
        names = "\n".join(found)
        return io.NodeOutput(sheet, names, ui=ui.PreviewImage(sheet, cls=cls))

"""Source, result without the adapter and result with it, side by side."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.tracking.draw import side_by_side
from ._comfy.display.preview import saved_video
from ._comfy.sockets.checked import video_frames


class DeTCompareVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTCompareVideos",
            display_name="Compare Videos (DeT)",
            category="DeT",
            description=(
                "Source, result without the adapter and result with it in one video, saved and shown: whether the "
                "motion came over is seen at a glance."
            ),
            search_aliases=["side by side", "before after", "compare video"],
            inputs=[
                io.Image.Input("source", tooltip="Frames of the source video."),
                io.Image.Input("with_motion", tooltip="Frames of the result with the adapter."),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second: the source's, from Get Video Components.",
                ),
                io.String.Input(
                    "filename_prefix", default="det/compared", tooltip="Where it is saved, in the output folder."
                ),
                io.Image.Input(
                    "without_motion",
                    optional=True,
                    tooltip="Frames of the same seed and prompt without the adapter. May be left out.",
                ),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The videos side by side.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, source, with_motion, fps, filename_prefix, without_motion=None) -> io.NodeOutput:
        without = [] if without_motion is None else [("without", without_motion)]
        videos = [("source", source), *without, ("with", with_motion)]
        joined = side_by_side([(label, video_frames(frames, label)) for label, frames in videos])
        return io.NodeOutput(joined.float() / 255, ui=saved_video(joined, fps, filename_prefix))

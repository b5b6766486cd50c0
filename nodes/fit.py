"""Bring a clip to a size and length that the model takes, and give the sampler an empty latent of the same."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.media.rate import LONGER, shortened, timed
from ._comfy.display.notice import say
from ._comfy.loading.model_spec import model_spec
from ._comfy.sockets.checked import video_frames
from ._comfy.sockets.fitting import FITS, empty_latent, fitted_frames, legal_length, legal_size


class DeTFitVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTFitVideo",
            display_name="Fit Video (DeT)",
            category="DeT",
            description=(
                "Bring a clip to a size and a length that the model takes, and make the empty latent of the same size "
                "and length for the sampler: what is learned and what is sampled then fit each other."
            ),
            search_aliases=["resize video", "legal frames", "4k+1 frames", "empty latent video", "crop video"],
            inputs=[
                io.Model.Input("model", tooltip="The base model: it knows which sizes and lengths it takes."),
                io.Image.Input("frames", tooltip="The source video."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Pixels. 0 takes the model's own; rounded to what fits.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Pixels. 0 takes the model's own; rounded to what fits.",
                ),
                io.Int.Input(
                    "length",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip=(
                        "Frames at most. 0 takes the model's own; a shorter clip is used to its last legal frame."
                    ),
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="What happens to another shape. crop: the sides are cut off. pad: black bars. stretch: it "
                    "is distorted.",
                ),
                io.Float.Input(
                    "source_fps",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.001,
                    optional=True,
                    tooltip="Frames per second of the source (Get Video Components gives them). 0: not known, and "
                    "every frame is used.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Frames per second to use of a source of known rate; 0 takes the model's own. A lower "
                    "number shows more of a long clip, moving faster. No frame is made up.",
                ),
                io.Combo.Input(
                    "longer",
                    options=list(LONGER),
                    default="cut",
                    optional=True,
                    tooltip="What happens to a longer clip. cut: its first frames are used. thin: every second or "
                    "third of all, which moves so much faster.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="For Track Video and VAE Encode."),
                io.Latent.Output(display_name="latent", tooltip="Empty, of the same size and length, for the sampler."),
                io.Float.Output(
                    display_name="fps", tooltip="At which the frames play at the clip's speed; 0 where it is not known."
                ),
            ],
        )

    @classmethod
    def execute(cls, model, frames, width, height, length, fit, source_fps=0.0, fps=0.0, longer="cut") -> io.NodeOutput:
        spec = model_spec(model)
        video = video_frames(frames)
        size = legal_size(spec, width or spec.defaults.width, height or spec.defaults.height)
        clip = timed(len(video), source_fps, fps or spec.defaults.fps)
        count = legal_length(spec, min(len(clip.frames), length or spec.defaults.frames))
        clip = shortened(clip, count, longer)
        latent = empty_latent(model, spec, size, count)
        done = f"; {clip.said}" if clip.said else ""
        say(f"{count} of {len(video)} frames, {size[0]}x{size[1]} pixels{done}")
        return io.NodeOutput(fitted_frames(video[list(clip.frames)], size, fit), latent, clip.fps)

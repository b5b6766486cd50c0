"""Bring a clip to a size and length that the model takes, and give the sampler an empty latent of the same."""

from __future__ import annotations

from comfy_api.latest import io

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
                        "Frames at most, from the first one on. 0 takes the model's own; a shorter clip is used to its "
                        "last legal frame."
                    ),
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="What happens to another shape. crop: the sides are cut off. pad: black bars. stretch: it "
                    "is distorted.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="For Track Video and VAE Encode."),
                io.Latent.Output(display_name="latent", tooltip="Empty, of the same size and length, for the sampler."),
            ],
        )

    @classmethod
    def execute(cls, model, frames, width, height, length, fit) -> io.NodeOutput:
        spec = model_spec(model)
        video = video_frames(frames)
        size = legal_size(spec, width or spec.defaults.width, height or spec.defaults.height)
        count = legal_length(spec, min(len(video), length or spec.defaults.frames))
        latent = empty_latent(model, spec, size, count)
        say(f"{count} of {len(video)} frames, {size[0]}x{size[1]} pixels")
        return io.NodeOutput(fitted_frames(video[:count], size, fit), latent)

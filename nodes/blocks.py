"""Show how much each block's kernel adds to the video."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ._comfy.display.bars import block_bars
from ._comfy.display.preview import image_of
from ._comfy.loading.model_spec import model_spec
from ._comfy.sampling.contribution import measured_shares
from ._comfy.sockets.checked import video_channels, video_latents


class DeTShowBlocks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTShowBlocks",
            display_name="Show Blocks (DeT)",
            category="DeT",
            description=(
                "How much of what each block gives comes from the motion adapters on a MODEL: one evaluation of the "
                "model, a bar a block. Blocks without a bar are dropped or have no kernel."
            ),
            search_aliases=["block weights", "per block strength", "drop fraction", "what blocks do"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL with one motion adapter or more, from Apply Motion Adapter."),
                io.Conditioning.Input("prompt", tooltip="The prompt that is sampled."),
                io.Latent.Input("video", tooltip="What was sampled, or any video's latents of the same size."),
                io.Float.Input(
                    "at_percent",
                    default=0.2,
                    min=0.01,
                    max=0.99,
                    step=0.01,
                    tooltip="Where in the sampling to look. The motion is decided early.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="bars", tooltip="A bar a block, over all blocks of the model."),
                io.String.Output(display_name="report", tooltip="A line a block: its number and its share."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, prompt, video, at_percent) -> io.NodeOutput:
        spec = model_spec(model)
        latents = video_latents(video, video_channels(model), spec)
        shares = measured_shares(model, prompt, latents, at_percent)
        bars = image_of(block_bars(shares, spec.num_blocks))
        report = "\n".join(f"block {block}: {share:.3f}" for block, share in shares.items())
        return io.NodeOutput(bars, report, ui=ui.PreviewImage(bars, cls=cls))

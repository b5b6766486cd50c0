"""Put a motion adapter on a MODEL."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.adapter.placement import Placement
from ..det_core.models.families import kept_blocks, parse_blocks
from ._comfy.display.notice import Notice
from ._comfy.loading.base import other_base
from ._comfy.loading.model_spec import model_spec
from ._comfy.sampling.adapter_wrapper import apply_adapter
from ._comfy.sockets.checked import DetAdapter, all_masks, curve
from ._comfy.sockets.inputs import curve_input


class DeTApplyMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTApplyMotionAdapter",
            display_name="Apply Motion Adapter (DeT)",
            category="DeT",
            description=(
                "Make a MODEL move as the adapter's source video did. The MODEL that comes in is not changed; "
                "adapters can be stacked and combined with LoRAs. Where a model makes sound, too, it follows the new "
                "motion; LTX-2 keeps it to the bit with v2a_cross_attn off in the model's options."
            ),
            search_aliases=["motion transfer", "motion lora", "det apply", "motion adapter"],
            inputs=[
                io.Model.Input("model", tooltip="The base model that the adapter was trained on, possibly with LoRAs."),
                DetAdapter.Input("adapter", tooltip="From Train Motion Adapter or Load Motion Adapter."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip=(
                        "Factor on what the adapter adds. Lower: looser motion, freer picture. 0 is the base model "
                        "exactly."
                    ),
                ),
                io.Float.Input(
                    "drop_fraction",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "Share of the blocks, from the last one back, whose kernels are left out: they hold the "
                        "look of the source "
                        "more than its motion. -1 takes what the adapter recommends (0.65 in the paper; 0 if "
                        "trained by the preset fast); 0 keeps all: "
                        "closer motion, less obedience to the prompt."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip='Blocks to keep, written as "0-14, 20". Replaces drop_fraction when it is not empty.',
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Where in the sampling the adapter starts to act. Motion is decided early: keep it 0. A share "
                        "of the schedule, as in ComfyUI's other nodes; see end_percent."
                    ),
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Where in the sampling it stops. 0.3 to 0.5 still fixes the motion and leaves details to "
                        "the base model. A share of the schedule: of the steps of simple or normal schedules, too, "
                        "whatever their shift (0.5 of 4 steps: 2). Of LTX-2's own eight sigmas six lie before 0.65, "
                        "the others at 0.80 and 0.94. Take a hair more than a step's share."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Where in the picture the adapter acts: white. Any size; several masks are spread over the "
                        "video, one is for all of it. Two adapters with two masks give two motions in one video."
                    ),
                ),
                curve_input("over_frames", "Factor on the strength from the first frame of the video to the last."),
                curve_input("over_sampling", "Factor on the strength from the first step of the sampling to the last."),
            ],
            outputs=[io.Model.Output(tooltip="The MODEL with the adapter, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        adapter,
        strength,
        drop_fraction,
        blocks="",
        start_percent=0.0,
        end_percent=1.0,
        mask=None,
        over_frames=None,
        over_sampling=None,
    ) -> io.NodeOutput:
        count = model_spec(model).num_blocks
        if warning := other_base(adapter.metadata, model):
            Notice.of_this_node().say(warning)
        if blocks.strip():
            keep = parse_blocks(blocks, count)
        elif drop_fraction < 0:
            keep = adapter.keep
        else:
            keep = [block for block in kept_blocks(count, drop_fraction) if block in adapter.kernels]
        where = Placement(None if mask is None else all_masks(mask), curve(over_frames))
        when = (start_percent, end_percent)
        return io.NodeOutput(apply_adapter(model, adapter, keep, strength, *when, where, curve(over_sampling)))

"""Base models: a DiT from disk as an ordinary MODEL, and the embedded one with its text encoder and codec."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..det_core.models.base_model import EMBEDDED, EMBEDDED_WORLD
from ._comfy.loading import paths
from ._comfy.loading.dit_loader import WEIGHT_DTYPES, load_dit
from ._comfy.loading.embedded import TinyClip, TinyVAE, load_tiny

ONE_SHAPE = "one shape"
KNOWS = {ONE_SHAPE: EMBEDDED, "small world": EMBEDDED_WORLD}


class DeTLoadDiT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadDiT",
            display_name="Load DiT (DeT)",
            category="DeT/loaders",
            description=(
                "Load a text-to-video DiT (CogVideoX, HunyuanVideo, Wan, LTX-Video, Step-Video-T2V) as a MODEL, "
                "from one file or a diffusers "
                "folder. CogVideoX is made right where ComfyUI's own loader is not; the log says what was corrected."
            ),
            search_aliases=[
                "cogvideox loader",
                "load diffusion model",
                "unet loader",
                "diffusers loader",
                "hunyuan",
                "wan",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=paths.dit_names(),
                    tooltip=(
                        "A file of models/diffusion_models, with ComfyUI's or diffusers' key names, or "
                        "diffusers/<folder> for a "
                        "transformer folder (sharded or not) under models/diffusers."
                    ),
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip=(
                        "Precision that weights are stored in. default keeps the file's; fp8 halves the VRAM of a "
                        "16-bit file "
                        "at a small loss of quality. Adapters train and run on all of them."
                    ),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The DiT, for any sampler, LoRA loader or motion adapter.")],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        with torch.inference_mode(False):  # so that adapters can be trained through these weights
            return io.NodeOutput(load_dit(paths.dit_path(model_name), weight_dtype))


class DeTTinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTinyModel",
            display_name="Embedded Model (DeT)",
            category="DeT/loaders",
            description=(
                "A small text-to-video model that comes with the pack: 9 frames of 64x64 pixels, one coloured "
                "shape on a patterned "
                "background. It trains and samples in a minute without a GPU and needs no download: use it to try "
                "a graph."
            ),
            search_aliases=["tiny model", "demo model", "toy model", "test model"],
            inputs=[
                io.Combo.Input(
                    "knows",
                    options=list(KNOWS),
                    default=ONE_SHAPE,
                    optional=True,
                    tooltip=(
                        "one shape: the model of the other examples. small world: also figures whose limbs move "
                        '("a red walker", "a blue bird"), two objects ("a red circle and a blue star on ..."), a '
                        "camera that moves, and a first frame, from InstructPixToPixConditioning. It draws less "
                        "cleanly. Adapters of the one do not fit the other."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The DiT, of the CogVideoX architecture. Sample with euler, simple, 20 steps, cfg 3."
                ),
                io.Clip.Output(
                    tooltip=(
                        "Its text encoder. It knows: red green blue yellow orange pink cyan white; circle square "
                        "triangle star; "
                        "navy maroon olive teal grey purple; plain striped checkered gradient."
                    )
                ),
                io.Vae.Output(tooltip="Its codec: 8x8 pixels to a cell, one latent frame for each video frame."),
            ],
        )

    @classmethod
    def execute(cls, knows=ONE_SHAPE) -> io.NodeOutput:
        name = KNOWS[knows]
        with torch.inference_mode(False):
            model = load_tiny(name)
        return io.NodeOutput(model, TinyClip(name), TinyVAE(model.model.latent_format.scale_factor, name))

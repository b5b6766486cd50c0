"""Step-Video-T2V beside its DiT: text encoders, VAE, empty latents. Neither ComfyUI nor its loaders know the model."""

from __future__ import annotations

from comfy_api.latest import io

from ..det_core.models.families.stepvideo import FRAMES
from ..det_core.models.stepvideo.files import TextFiles
from ._comfy.loading import paths
from ._comfy.loading.stepvideo_text import load_text_encoders
from ._comfy.loading.stepvideo_vae import load_vae
from ._comfy.sockets.fitting import empty_samples

CELL, CHANNELS = 16, 64


class DeTLoadStepVideoText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadStepVideoText",
            display_name="Load Step-Video Text Encoders (DeT)",
            category="DeT/loaders",
            description=(
                "Load Step-LLM and the Hunyuan CLIP of Step-Video-T2V as a CLIP. Step-LLM has 39 GB: encode prompts "
                "once, keep them with Save Conditioning (DeT), and load them from there."
            ),
            search_aliases=["stepvideo clip", "step-llm", "step video text encoder"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=sorted(paths.stepvideo_folders()),
                    tooltip=(
                        "A folder of models/diffusers or models/text_encoders with step_llm and hunyuan_clip in it, as "
                        "stepfun-ai/stepvideo-t2v is published."
                    ),
                )
            ],
            outputs=[
                io.Clip.Output(tooltip="For CLIP Text Encode. Prompts over 318 tokens are cut; the log says where.")
            ],
        )

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        return io.NodeOutput(load_text_encoders(TextFiles.of(paths.chosen(paths.stepvideo_folders(), folder))))


class DeTLoadStepVideoVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTLoadStepVideoVAE",
            display_name="Load Step-Video VAE (DeT)",
            category="DeT/loaders",
            description="Load the codec of Step-Video-T2V as a VAE. It codes 17 frames at a time, so 17, 34, 51 ...",
            search_aliases=["stepvideo vae", "step video codec"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=list(paths.stepvideo_vaes()),
                    tooltip="vae_v2.safetensors, in models/vae or in the published folder under models/diffusers.",
                )
            ],
            outputs=[io.Vae.Output(tooltip="For VAE Encode, VAE Decode and their tiled forms.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(paths.chosen(paths.stepvideo_vaes(), vae_name)))


class DeTEmptyStepVideoLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTEmptyStepVideoLatent",
            display_name="Empty Step-Video Latent (DeT)",
            category="DeT",
            description="Latents to sample Step-Video-T2V from: 3 latent frames for every 17 frames of video.",
            search_aliases=["stepvideo latent", "empty latent video"],
            inputs=[
                io.Int.Input("width", default=768, min=16, max=4096, step=16, tooltip="Width in pixels."),
                io.Int.Input("height", default=512, min=16, max=4096, step=16, tooltip="Height in pixels."),
                io.Int.Input(
                    "frames",
                    default=51,
                    min=17,
                    max=4080,
                    step=17,
                    tooltip="Frames of the video, a multiple of 17; 25 frames are a second. More: more VRAM and time.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Videos to make at once."),
            ],
            outputs=[io.Latent.Output(tooltip="For KSampler with Step-Video-T2V.")],
        )

    @classmethod
    def execute(cls, width: int, height: int, frames: int, batch_size: int) -> io.NodeOutput:
        shape = (batch_size, CHANNELS, FRAMES.latent_frames(frames), height // CELL, width // CELL)
        samples = empty_samples(shape)
        return io.NodeOutput({"samples": samples})

"""Copied into the test server's custom_nodes: a text encoder and a VAE that stand in for files of many gigabytes.

They have the shapes of the real ones (T5-XXL width, pooled CLIP width; 8x8 pixels a cell, 4k+1 frames) and nothing
else."""

import hashlib

import torch
from comfy_api.latest import ComfyExtension, io


class Clip:
    def tokenize(self, text, **_):
        return text

    def encode_from_tokens_scheduled(self, text, **_):
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        generator = torch.Generator().manual_seed(seed)
        return [
            [torch.randn(1, 16, 4096, generator=generator), {"pooled_output": torch.randn(1, 768, generator=generator)}]
        ]


class Vae:
    def encode(self, pixels):
        frames = pixels[..., :3].float() * 2 - 1
        small = torch.nn.functional.avg_pool2d(frames.movedim(-1, 1), 8)[::4]  # (T', 3, h, w)
        mix = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
        return torch.einsum("dc,tchw->dthw", mix, small)[None]

    def decode(self, latents):
        mix = torch.linalg.pinv(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)))
        frames = torch.einsum("cd,bdthw->bthwc", mix, latents.float().cpu()) / 2 + 0.5
        frames = frames.repeat_interleave(4, 1)[:, 3:].repeat_interleave(8, 2).repeat_interleave(8, 3)
        return frames.clamp(0, 1)

    def encode_tiled(self, pixels, **_):
        return self.encode(pixels)

    def decode_tiled(self, latents, **_):
        return self.decode(latents)

    def spacial_compression_encode(self):
        return 8

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_decode(self):
        return 4


class StandInClip(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="StandInClip", category="test", inputs=[], outputs=[io.Clip.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(Clip())


class StandInVae(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="StandInVae", category="test", inputs=[], outputs=[io.Vae.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(Vae())


class StandIns(ComfyExtension):
    async def get_node_list(self):
        return [StandInClip, StandInVae]


async def comfy_entrypoint():
    return StandIns()

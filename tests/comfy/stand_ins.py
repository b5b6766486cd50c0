"""Copied into the test server's custom_nodes: text encoders and VAEs that stand in for files of many gigabytes.

They have the shapes of the real ones (widths of text, channels, pixels and frames to a cell) and nothing else."""

import hashlib

import torch
from comfy_api.latest import ComfyExtension, io

FAMILIES = {"plain": (16, 8, 4), "ltx": (128, 32, 8), "h3": (24, 16, None)}  # channels, pixels and frames to a cell


class Clip:
    def __init__(self, width):
        self.width = width

    def tokenize(self, text, image=None, **_):
        return text if image is None else f"{'x'.join(map(str, image.shape[:3]))}: {text}"

    def generate(self, tokens, **_):
        return tokens

    def decode(self, tokens):
        return f"seen in {tokens}"

    def encode_from_tokens_scheduled(self, text, **_):
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        generator = torch.Generator().manual_seed(seed)
        words = torch.randn(1, 16, self.width, generator=generator)
        return [[words, {"pooled_output": torch.randn(1, 768, generator=generator)}]]


class Vae:
    def __init__(self, family):
        self.channels, self.pixels, self.frames = FAMILIES[family]
        self.downscale_index_formula = (self.frames, self.pixels, self.pixels)

    def _mix(self):
        return torch.randn(self.channels, 3, generator=torch.Generator().manual_seed(0))

    def _starts(self, frames):
        """The first frame of each latent one; MiniMax H3 joins 1, 4, 4, 4, 4 over and over."""
        if self.frames:
            return list(range(0, frames, self.frames))
        starts, at = [], 0
        while at < frames:
            starts.append(at)
            at += 4 if len(starts) % 5 != 1 else 1
        return starts

    def encode(self, pixels):
        frames = pixels[..., :3].float() * 2 - 1
        small = torch.nn.functional.avg_pool2d(frames.movedim(-1, 1), self.pixels)
        return torch.einsum("dc,tchw->dthw", self._mix(), small[self._starts(len(small))])[None]

    def decode(self, latents):
        if latents.is_nested:
            latents = latents.unbind()[0]
        frames = torch.einsum("cd,bdthw->bthwc", torch.linalg.pinv(self._mix()), latents.float().cpu()) / 2 + 0.5
        spans = [self.frames or 4] * frames.shape[1]
        spans = [1 if i == 0 or (not self.frames and i % 5 == 0) else span for i, span in enumerate(spans)]
        frames = frames.repeat_interleave(torch.tensor(spans), 1)
        return frames.repeat_interleave(self.pixels, 2).repeat_interleave(self.pixels, 3).clamp(0, 1)

    def encode_tiled(self, pixels, **_):
        return self.encode(pixels)

    def decode_tiled(self, latents, **_):
        return self.decode(latents)

    def spacial_compression_encode(self):
        return self.pixels

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_decode(self):
        return self.frames


class AudioVae:
    """Of LTX-2 and MiniMax H3: silence of the length that the latents say."""

    latent_channels, latent_frequency_bins, output_sample_rate = 8, 16, 16000
    audio_sample_rate = audio_sample_rate_output = 16000

    @property
    def first_stage_model(self):
        return self

    def num_of_latents_from_frames(self, frames, rate):
        return max(1, round(frames / rate * 25))

    def decode(self, latents, **_):
        if latents.is_nested:
            latents = latents.unbind()[-1]
        length = latents.shape[2] if latents.shape[1] == 8 else latents.shape[3]
        return torch.zeros(1, 640 * length, 2)


def stand_in(name, output, make, *inputs):
    class StandIn(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(node_id=name, category="test", inputs=list(inputs), outputs=[output()])

        @classmethod
        def execute(cls, **given):
            return io.NodeOutput(make(**given))

    return StandIn


class StandIns(ComfyExtension):
    async def get_node_list(self):
        return [
            stand_in("StandInClip", io.Clip.Output, Clip, io.Int.Input("width", default=4096)),
            stand_in("StandInVae", io.Vae.Output, Vae, io.String.Input("family", default="plain")),
            stand_in("StandInAudioVae", io.Vae.Output, AudioVae),
        ]


async def comfy_entrypoint():
    return StandIns()

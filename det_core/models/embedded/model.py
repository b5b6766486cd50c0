"""The embedded DiT: a 3-million-parameter text-to-video model of the CogVideoX architecture, shipped with its weights.

It runs where no other model is at hand: the demo, the tests and the study. Everything but its size is a CogVideoX: text
and video tokens in joint attention, v-prediction, zero terminal SNR, so it goes through the same code as the 5B model.
Positions are absolute sine-cosine tables, as in CogVideoX-2B: a kernel that is shared over space can only place a
motion by what the features say about place, and with purely relative positions they say too little
(docs/understand/embedded-model.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

from .attention import MatmulAttention
from .codec import CHANNELS, PATCH, PatchCodec
from .corpus import FRAMES, SIZE
from .text import LENGTH, WIDTH, WordEncoder

WEIGHTS = Path(__file__).with_name("weights.safetensors")


def build_transformer(
    num_layers: int = 8, num_heads: int = 2, in_channels: int = CHANNELS, out_channels: int = CHANNELS
) -> CogVideoXTransformer3DModel:
    """The architecture with fresh random weights (heads are 64 wide)."""
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=num_heads,
        attention_head_dim=64,
        in_channels=in_channels,
        out_channels=out_channels,
        time_embed_dim=128,
        text_embed_dim=WIDTH,
        num_layers=num_layers,
        sample_width=SIZE // PATCH,
        sample_height=SIZE // PATCH,
        sample_frames=FRAMES,
        patch_size=1,
        temporal_compression_ratio=1,
        max_text_seq_length=LENGTH,
        use_rotary_positional_embeddings=False,
    )
    transformer.set_attn_processor(MatmulAttention())
    return transformer


def build_scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX-5B's schedule: v-prediction, scaled-linear betas, zero terminal SNR, trailing timesteps."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
        snr_shift_scale=1.0,
    )


@dataclass
class TinyModel:
    """The embedded DiT whole: transformer, codec and text encoder."""

    transformer: CogVideoXTransformer3DModel
    codec: PatchCodec
    text: WordEncoder

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors of the model under the names of the weights file."""
        # The position table is computed, not learned.
        transformer = {k: v for k, v in self.transformer.state_dict().items() if k != "patch_embed.pos_embedding"}
        return {
            **{f"transformer.{k}": v for k, v in transformer.items()},
            **{f"codec.{k}": v for k, v in self.codec.state_dict().items()},
            "text.table": self.text.table,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], words: type[WordEncoder] = WordEncoder) -> TinyModel:
        """Rebuild the model from `tensors()`, in float32; `words` is the class of its text encoder."""
        groups: dict[str, dict[str, torch.Tensor]] = {"transformer": {}, "codec": {}, "text": {}}
        for key, value in tensors.items():
            group, name = key.split(".", 1)
            groups[group][name] = value.float()
        blocks = 1 + max(int(k.split(".")[1]) for k in groups["transformer"] if k.startswith("transformer_blocks."))
        heads = groups["transformer"]["transformer_blocks.0.attn1.to_q.weight"].shape[0] // 64
        channels_in = groups["transformer"]["patch_embed.proj.weight"].shape[1]
        channels_out = groups["transformer"]["proj_out.weight"].shape[0]
        transformer = build_transformer(blocks, heads, channels_in, channels_out)
        transformer.load_state_dict(groups["transformer"], strict=True)
        return cls(
            transformer.eval().requires_grad_(False),
            PatchCodec(**groups["codec"]),
            words(groups["text"]["table"]),
        )

    @classmethod
    def load(cls, path: Path | str = WEIGHTS) -> TinyModel:
        """The shipped model, or one trained by `python -m det_core.models.embedded.train`."""
        from safetensors.torch import load_file

        return cls.from_tensors(load_file(path))

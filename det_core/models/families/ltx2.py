"""LTX-2 (2.0, 2.3, 2.5): LTX-Video with a stream of sound beside the video's.

Self-attention of a block's video stream sees video tokens only, guide frames after them; sound has attention of its own
and crosses over. The paper has no LTX experiment: the training values are those it uses for CogVideoX, the sampling
ones the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward
from .family import Costs, Family
from .ltx import LTX
from .placing import Placing
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap

FPS = 25.0  # of the seconds at which tokens stand


def _norms(attention: str) -> tuple[tuple[str, str], ...]:
    own = f"transformer_blocks.{{}}.{attention}"
    return ((f"{own}.norm_q", f"{own}.q_norm"), (f"{own}.norm_k", f"{own}.k_norm"))


RULES = (
    ("proj_in", "patchify_proj"),
    ("audio_proj_in", "audio_patchify_proj"),
    ("time_embed", "adaln_single"),
    ("audio_time_embed", "audio_adaln_single"),
    ("prompt_adaln", "prompt_adaln_single"),
    ("audio_prompt_adaln", "audio_prompt_adaln_single"),
    ("av_cross_attn_video_scale_shift", "av_ca_video_scale_shift_adaln_single"),
    ("av_cross_attn_audio_scale_shift", "av_ca_audio_scale_shift_adaln_single"),
    ("av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"),
    ("av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"),
    (
        "transformer_blocks.{}.video_a2v_cross_attn_scale_shift_table",
        "transformer_blocks.{}.scale_shift_table_a2v_ca_video",
    ),
    (
        "transformer_blocks.{}.audio_a2v_cross_attn_scale_shift_table",
        "transformer_blocks.{}.scale_shift_table_a2v_ca_audio",
    ),
    *_norms("attn1"),
    *_norms("attn2"),
    *_norms("audio_attn1"),
    *_norms("audio_attn2"),
    *_norms("audio_to_video_attn"),
    *_norms("video_to_audio_attn"),
)


class LTX2(Family):
    name = "ltx2"
    title = "LTX-2"
    diffusers_class = "LTX2VideoTransformer3DModel"
    pipeline = ""  # whole folders are not opened: only the transformer, from Python
    native_modules = ("patchify_proj", "audio_patchify_proj", "transformer_blocks.0.attn1")
    diffusers_marks = ()  # its folders keep what prompts pass before the transformer apart
    native_marks = ("patchify_proj.weight", "audio_patchify_proj.weight")
    rules = RULES
    stacks = ((Stack.plain("transformer_blocks", "attn1"),) * 2,)
    costs = Costs(13.2, 4.2, 3.0, 16.4, 0, 0.3)  # on ComfyUI's own modules, without sound
    half_costs = Costs(19.3, 6.2, 3.0, 22.5, 0, 0)
    diffusers_costs = (Costs(14.1, 6.1, 3.0, 15.3, 0, 0), Costs(24.2, 10.1, 3.0, 26.5, 0, 0))
    in_place = True
    place_native = LTX.place_native

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        config = model.config if layout == "diffusers" else model
        native_dim = getattr(model, "inner_dim", None)
        paths = [f"transformer_blocks.{i}.attn1" for i in range(len(model.transformer_blocks))]
        return DiTSpec(
            family=self,
            layout=layout,
            dim=native_dim or config.num_attention_heads * config.attention_head_dim,
            taps=tuple(Tap(path, path, tokens="first") for path in paths),
            patch=(1, 1, 1),
            frames=FrameMap((1,), (8,)),
            spatial_compression=32,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(cfg=1.0, shift=2.37, width=768, height=512, frames=97, fps=FPS, sample_steps=8),
            attention="first",
            version=_version(config),
        )

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        sizes = [kwargs.get(name) for name in ("num_frames", "height", "width")]
        if None in sizes:
            raise ValueError("LTX-2 with a motion adapter needs num_frames, height, width (latent cells) by name")
        return spec.grid(tuple(sizes))

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        """Without sound: a stream of one token that the video does not look at. cond: the prompt's encodings for both
        streams, `encoder_hidden_states` and `audio_encoder_hidden_states`, as the pipeline's connectors make them."""
        batch, _, frames, height, width = x_t.shape
        first = torch.zeros(batch, frames * height * width, 1, device=x_t.device)
        first[:, : height * width] = 1  # 2.5 marks the frame that is a single one of the video
        out = transformer(
            x_t.flatten(2).transpose(1, 2),
            x_t.new_zeros(batch, 1, transformer.config.audio_in_channels),
            timestep=t,
            sigma=t,
            num_frames=frames,
            height=height,
            width=width,
            fps=FPS,
            audio_num_frames=1,
            isolate_modalities=True,
            video_keyframes_mask=first,
            return_dict=False,
            **cond,
        )[0]
        return out.transpose(1, 2).unflatten(2, (frames, height, width))

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        return [(transformer, partial(_placed, transformer.forward, transformer.rope.prepare_video_coords, placing))]


def _placed(
    forward: Forward, coordinates: Forward, placing: Placing, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """The module's forward with its tokens where `placing` says, which has read the grid of the call: their cells'
    corners in pixels and seconds, (B, 3, tokens, 2), are those of a clip in which all these places are."""
    sizes = list(placing.grid)
    for axis, at in placing.tokens.items():
        sizes[axis] = int(at.max()) + 2
    cells = coordinates(len(hidden_states), *sizes, hidden_states.device, fps=kwargs["fps"]).unflatten(2, sizes)
    for axis, at in placing.tokens.items():
        low, share = at.floor().long().to(cells.device), (at - at.floor()).to(cells)
        shape = [1] * cells.ndim
        shape[2 + axis] = len(at)
        cells = torch.lerp(
            cells.index_select(2 + axis, low), cells.index_select(2 + axis, low + 1), share.reshape(shape)
        )
    return forward(hidden_states, *args, video_coords=cells.flatten(2, 4), **kwargs)


def _version(sizes: Any) -> str:
    """2.5 has no biases in its MLPs; 2.3 before it brought modulated prompts. Each layout has a word for that."""
    if not getattr(sizes, "ff_bias", True):
        return "2.5"
    modulated = getattr(sizes, "cross_attention_adaln", False) or getattr(sizes, "cross_attn_mod", False)
    return "2.3" if modulated else "2.0"


LTX_2 = LTX2()

"""MiniMax H3: one packed sequence of text, keyframes or references, sound and, last, the video.

The native model takes one sequence at a time, so its tokens are (tokens, channels). Its codec joins 17k+5 frames to
5k+2 latent ones, of 1, 4, 4, 4, 4 frames over and over. The paper has no H3 experiment: the training values are those
it uses for CogVideoX, the sampling ones the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ...media.frame_map import FrameMap
from ..overriding import Forward, overridden, replaced
from .family import Costs, Family
from .keys import Fused, fuse, split
from .placing import Placing
from .projections import Stack
from .spec import Defaults, DiTSpec, Layout, Tap, unwrapped

FRAMES = FrameMap((1, 4), (4, 4, 4, 1, 4))
TIME_STEP = 5 / 3  # of the time axis, to a pixel frame
CAUTION = (
    "MiniMax H3 is distilled to need no guidance, and its latent frames hold 1 or 4 frames by turns. Adapters train "
    "and apply here, but nothing is known of how much motion transfers; expect training to soften its pictures."
)


QKV = ("to_q", "to_k", "to_v")
FUSED = (
    Fused("transformer_blocks.{}.attn", QKV, "blocks.{}.attn.qkv_proj", even=True),
    Fused("token_refiner.refiner_blocks.{}.attn", QKV, "token_refiner.blocks.{}.attn.qkv_proj", even=True),
)


def _block(diffusers: str, native: str) -> tuple[tuple[str, str], ...]:
    parts = {
        "attn.norm_q": "attn.q_norm",
        "attn.norm_k": "attn.k_norm",
        "attn.to_out.0": "attn.out_proj",
        "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
    }
    return (*((f"{diffusers}.{old}", f"{native}.{new}") for old, new in parts.items()), (diffusers, native))


RULES = (
    ("proj_in", "video_patch_proj"),
    ("audio_proj_in", "audio_patch_proj"),
    ("context_embedder", "condition_proj"),
    ("time_embedder.linear_1", "time_embedder.proj_in"),
    ("time_embedder.linear_2", "time_embedder.proj_out"),
    *_block("token_refiner.refiner_blocks.{}", "token_refiner.blocks.{}"),
    *_block("transformer_blocks.{}", "blocks.{}"),
    ("norm_out.norm", "final_layer.norm"),
    ("norm_out.linear", "final_layer.adaln_proj.linear"),
    ("proj_out", "final_layer.video_out"),
    ("audio_proj_out", "final_layer.audio_out"),
)


class MiniMaxH3(Family):
    name = "minimax_h3"
    title = "MiniMax H3"
    diffusers_class = "MiniMaxH3Transformer3DModel"
    pipeline = ""  # whole folders are not opened: only the transformer, from Python
    native_modules = ("video_patch_proj", "audio_patch_proj", "blocks.0.attn.qkv_proj")
    diffusers_marks = ()  # a folder's weights lack the frequencies that core reads from a file
    native_marks = ("video_patch_proj.weight", "audio_patch_proj.weight")
    rules = RULES
    stacks = ((Stack.plain("transformer_blocks", "attn"), Stack.fused("blocks", "attn.qkv_proj", 3, "attn.out_proj")),)
    costs = Costs(15.2, 12.1, 3.0, 13.7, 0, 0)  # on ComfyUI's own modules, without sound; its attention is 4/3 wide
    half_costs = Costs(18.7, 10.5, 3.0, 17.2, 0, 0)
    diffusers_costs = (Costs(16.4, 11.9, 2.4, 13.4, 0, 0), Costs(21.4, 12.5, 2.4, 19.6, 0, 0))
    in_place = True
    one_at_a_time = True

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        if layout == "diffusers":
            config, blocks = model.config, "transformer_blocks"
            hidden, patch = config.hidden_size, config.patch_size
        else:
            hidden, patch, blocks = model.hidden_size, model.patch_size, "blocks"
        first = model.get_submodule(f"{blocks}.0.attn")
        paths = [f"{blocks}.{i}.attn" for i in range(len(model.get_submodule(blocks)))]
        return DiTSpec(
            family=self,
            layout=layout,
            dim=hidden,
            taps=tuple(Tap(path, path, tokens="last") for path in paths),
            patch=tuple(patch),
            frames=FRAMES,
            spatial_compression=16,
            prediction="flow",
            track_limit=550,
            defaults=Defaults(cfg=1.0, shift=12.0, width=1344, height=768, frames=124, fps=24.0, sample_steps=8),
            attention="last",
            inner_dim=first.heads * first.head_dim,
            caution=CAUTION,
        )

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        return _grid_of(args[6] if len(args) > 6 else kwargs["position_ids"])

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        """Without sound, one video after the other, each at a time of its own. cond: `encoder_hidden_states` alone."""
        config, texts, found = transformer.config, cond["encoder_hidden_states"], []
        for x, at, text in zip(x_t.split(1), t, texts.split(1), strict=True):
            rows = transformer(**packed(config, x, at, text), return_dict=False)[0]
            found.append(-unpacked(rows, x, config.patch_size))
        return torch.cat(found)

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        return [(transformer.rope, partial(_placed_rope, transformer.rope.forward, spec, placing))]

    @contextmanager
    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> Iterator[dict]:
        """Rows and columns stay as they are: the model spreads any number of them over the same range."""
        rope = partial(_placed_rope, dit.rope_freqs, spec, placing)
        with overridden([(dit, partial(_sized, dit.forward, spec, placing))]), replaced(dit, "rope_freqs", rope):
            yield {}

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        layer = "transformer_blocks.0.ff.net.0.proj" if spec.layout == "diffusers" else "blocks.0.mlp.fc1"
        return unwrapped(transformer).get_submodule(layer).out_features / spec.dim

    def to_native(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return _swap_gates(super().to_native(fuse(state_dict, FUSED)))

    def to_diffusers(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return super().to_diffusers(split(_swap_gates(state_dict), FUSED))


def _sized(forward: Forward, spec: DiTSpec, placing: Placing, streams: Any, *args: Any, **kwargs: Any):
    """The model's forward, whose video is the first of its `streams`, once its size is known to be the placed one."""
    placing.meet(spec.grid(streams[0].shape))
    return forward(streams, *args, **kwargs)


def _placed_rope(own: Forward, spec: DiTSpec, placing: Placing, position_ids: torch.Tensor, *args: Any):
    """Rotary angles of a packed sequence (rows, 3), whose last rows are the video's, at their times."""
    time, height, width = placing.grid
    if 0 in placing.tokens:
        first = position_ids.shape[0] - time * height * width
        starts = _starts(spec.frames, placing.tokens[0]) * TIME_STEP
        position_ids = position_ids.clone()
        position_ids[first:, 0] = position_ids[first, 0] + starts.repeat_interleave(height * width).to(position_ids)
    return own(position_ids, *args)


def _starts(frames: FrameMap, at: torch.Tensor) -> torch.Tensor:
    """The pixel frame at which each latent frame of `at` begins, (T,); between whole numbers it lies between theirs."""
    spans = frames.spans(int(at.max()) + 2)
    whole, share = at.floor().long(), at - at.floor()
    begin = torch.tensor([span.start for span in spans], dtype=at.dtype)
    return begin[whole] + share * (begin[whole + 1] - begin[whole])


def _swap_gates(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first layer of an MLP is (gate, value) natively and (value, gate) in diffusers."""
    return {k: torch.cat(v.chunk(2)[::-1]) if k.endswith(".mlp.fc1.weight") else v for k, v in state_dict.items()}


def packed(config: Any, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> dict[str, Any]:
    """The arguments of a diffusers transformer for latents `x` (B, C, T, H, W), all at the time `t` (), and a text
    (B, words, width)."""
    whole = [size for size, patch in zip(x.shape[2:], config.patch_size, strict=True) if size % patch]
    if whole:
        raise ValueError(f"latents of {'x'.join(map(str, x.shape[2:]))} cells do not divide into MiniMax H3's patches")
    rows, words = _patches(x, config.patch_size).flatten(4).flatten(1, 3), text.shape[1]
    numbers = torch.arange(words + rows.shape[1], device=x.device)
    return {
        "hidden_states": rows,
        "audio_hidden_states": x.new_zeros(len(x), 0, config.audio_in_channels),
        "encoder_hidden_states": text,
        "timestep": 1 - t[None].float() / 1000,
        "timestep_indices": torch.zeros_like(numbers),
        "token_tags": (numbers < words).long(),  # 1 text, 0 video
        "position_ids": _positions(words, x.shape[2:], config.patch_size).to(x.device),
        "video_indices": numbers[words:],
        "audio_indices": numbers[:0],
        "text_indices": numbers[:words],
    }


def unpacked(rows: torch.Tensor, like: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """The transformer's rows (B, tokens, channels of a patch) as latents of the shape of `like`."""
    patches = rows.reshape(_patches(like, patch).shape).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return patches.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _patches(x: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """(B, C, T, H, W) latents -> (B, T/p, H/p, W/p, C, p, p, p)."""
    for axis, size in zip((2, 4, 6), patch, strict=True):
        x = x.unflatten(axis, (-1, size))
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7)


def _positions(words: int, sizes: tuple[int, int, int], patch: tuple[int, int, int]) -> torch.Tensor:
    """(time, row, column) of a sequence of so many words and a video of (T, H, W) cells, (rows, 3) float64.

    Words are a unit of time apart, then each frame of the video 5/3. Rows and columns run over 32 times the square root
    of the picture's proportions, whatever their number, around the same middle.
    """
    text = torch.zeros(words, 3, dtype=torch.float64)
    text[:, 0] = torch.arange(words)
    time, height, width = sizes
    starts = _starts(FRAMES, torch.arange(time // patch[0], dtype=torch.float64))
    area = math.sqrt(height * width)
    axes = [words + TIME_STEP * starts]
    for size, step in zip((height, width), patch[1:], strict=True):
        share = torch.arange(size // step, dtype=torch.float64) / (size // step)
        axes.append(32 * ((1 - size / area) / 2 + share * size / area))
    video = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    return torch.cat([text, video])


def _grid_of(position_ids: torch.Tensor) -> tuple[int, int, int]:
    """The token grid of the video that ends a packed sequence, from the places (time, row, column) of its rows."""
    time, row, column = position_ids.double().cpu().T
    frame = _run(time == time[-1])
    width = _run((time == time[-1]) & (row == row[-1]))
    count = len(time) // frame
    times = time[-count * frame :].reshape(count, frame)
    whole = (times == times[:, :1]).all(1)  # the rows of a frame share its time, and stand as the last frame's do
    for axis in (row, column):
        whole &= (axis[-count * frame :].reshape(count, frame) == axis[-frame:]).all(1)
    rising = torch.cat([times[:-1, 0] < times[1:, 0], torch.tensor([True])])  # a keyframe's time is one of the video's
    return _run(whole & rising), frame // width, width


def _run(flags: torch.Tensor) -> int:
    """How many of these hold in a row at the end."""
    return len(flags) if flags.all() else int(flags.flip(0).long().argmin())


MINIMAX_H3 = MiniMaxH3()

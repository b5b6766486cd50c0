"""Which tokens of one call of a ComfyUI model are the video, and which are guides, references, poses or context.

The latents of a call say how many frames they hold, not what each frame is; the other arguments of the call do. What
they tell is followed: the kernels see the video's own time steps and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import comfy.model_base
import torch
from comfy.nested_tensor import NestedTensor

from ....det_core.adapter.placement import Window
from ....det_core.models.families import DiTSpec, unwrapped

Grid = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class VideoTokens:
    """grid: time steps, rows and columns of the video's tokens. spec: the model's, with its taps set to where they
    are in this call. front: frames of the latents before the video's first (references), which are no time steps."""

    grid: Grid
    spec: DiTSpec
    front: int = 0


def video_tokens(model, spec: DiTSpec, x: torch.Tensor, call: Mapping[str, Any], options: Mapping) -> VideoTokens:
    """The video in a call of `model` (a comfy BaseModel) with latents `x`, keyword arguments `call` and
    `transformer_options` `options`.

    Raises: ValueError if the latents are no video, or are only a part of it.
    """
    shape = call["latent_shapes"][0] if call.get("latent_shapes") else x.shape
    if len(shape) != 5:
        raise ValueError(
            f"a motion adapter needs video latents (batch, channels, frames, height, width); got {tuple(shape)}"
        )
    if spec.family.one_at_a_time and shape[0] > 1:
        raise ValueError(f"{spec.family.title} makes one video at a time, not {shape[0]}: set the batch to 1")
    if options.get("ar_state") is not None:
        raise ValueError(
            "this sampler makes the video block by block, and a motion adapter would see one block at a time: sample "
            "this model with KSampler, all frames at once"
        )
    time, rows, columns = spec.grid(shape)
    cell = rows * columns
    guides = _guide_tokens(call) // cell
    front = _frames_in_front(model, call)
    before = front * cell + _tokens_before(model, spec, call)
    if guides or before or _tokens_after(call):
        taps = tuple(dataclasses.replace(tap, tokens=before) for tap in spec.taps)
        spec = dataclasses.replace(spec, taps=taps, attention=before)
    if time - guides - front < 1:
        raise ValueError(f"{time} latent frames hold {guides + front} guides or references and no video")
    return VideoTokens((time - guides - front, rows, columns), spec, front)


def video_window(video: VideoTokens, options: Mapping) -> Window | None:
    """Which latent frames of the whole video a call sees under the core's Context Windows; None where it sees all."""
    window = options.get("context_window")
    if window is None:
        return None
    anchor = getattr(window, "causal_anchor_index", None)  # a frame that is shown before the window's own
    frames = [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list][video.front :]
    if math.ceil(len(frames) / video.spec.patch[0]) != video.grid[0]:
        return None  # left from an earlier call, or over something else than frames
    return Window(frames, window.total_frames)


def stream_shapes(model, video: torch.Size) -> list[tuple[int, ...]]:
    """The shapes of a call's streams for latents of the video alone: MiniMax H3 takes a stream of sound even so, of no
    length."""
    silence = [(video[0], 32, 2, 0)] if isinstance(model, comfy.model_base.MiniMaxH3) else []
    return [tuple(video), *silence]


def with_silence(model, video: torch.Tensor) -> torch.Tensor:
    """The latents of a video as samplers take them: alone, or first of the model's streams."""
    silence = [torch.zeros(shape) for shape in stream_shapes(model, video.shape)[1:]]
    return NestedTensor([video, *silence]) if silence else video


def _guide_tokens(call: Mapping[str, Any]) -> int:
    """LTX: guide frames are appended to the latents, and this lists their tokens, (B, 3, tokens, ...)."""
    return 0 if call.get("keyframe_idxs") is None else call["keyframe_idxs"].shape[2]


def _frames_in_front(model, call: Mapping[str, Any]) -> int:
    """Latent frames before the video that a sampler's latents hold and `TrimVideoLatent` takes away afterwards."""
    if isinstance(model, comfy.model_base.WAN22_Animate):
        return 1  # the model lays poses and faces from the second frame on: the first is the character
    context = call.get("vace_context")  # (B, contexts, 16 inactive + 16 reactive + 64 mask, T, H, W)
    if context is None:
        return 0
    # A reference has nothing to change, its mask and its reactive half are exactly zero; no encoded frame's are.
    empty = (context[0, 0, 16:] == 0).flatten(2).all(dim=2).all(dim=0).tolist()
    return next((i for i, is_reference in enumerate(empty) if not is_reference), 0)


def _tokens_before(model, spec: DiTSpec, call: Mapping[str, Any]) -> int:
    """Wan: tokens of reference pictures that the model itself puts before the video's."""
    reference = call.get("reference_latent")
    if reference is None:
        return 0
    if isinstance(model, comfy.model_base.WAN21_SCAIL):
        return math.prod(spec.grid(reference.shape))
    if getattr(unwrapped(model.diffusion_model), "ref_conv", None) is not None:
        return math.prod(spec.grid((1, *reference.shape[-2:])))
    return 0


def _tokens_after(call: Mapping[str, Any]) -> bool:
    """Wan: references, poses and context that the model itself puts after the video's tokens."""
    return any(
        call.get(name) is not None
        for name in ("reference_latent", "reference_motion", "time_dim_concat", "context_latents", "pose_latents")
    )

"""What comes in through sockets, checked and turned into det_core's types."""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy_api.input import CurveInput
from comfy_api.latest import io

from ....det_core.fym.heads import HeadMap
from ....det_core.models.families import DiTSpec
from ....det_core.tracking.tracks import Tracks

DetAdapter = io.Custom("DET_ADAPTER")
FymHeads = io.Custom("FYM_HEADS")


def video_frames(images: torch.Tensor, what: str = "frames") -> torch.Tensor:
    """IMAGE as a video (T, H, W, 3) on the CPU. Raises ValueError on a single picture."""
    if images.ndim != 4 or images.shape[0] < 2:
        raise ValueError(
            f"{what} must be a video of at least 2 frames; got {images.shape[0] if images.ndim == 4 else 'no'} frame(s)"
        )
    return images[..., :3].float().cpu().clone()


def first_mask(mask: torch.Tensor) -> torch.Tensor:
    """MASK as the mask (H, W) of the first frame."""
    return (mask if mask.ndim == 2 else mask.reshape(-1, *mask.shape[-2:])[0]).float().cpu().clone()


def all_masks(mask: torch.Tensor) -> torch.Tensor:
    """MASK as one or more masks (F, H, W) in [0, 1]. Raises ValueError where all are black."""
    masks = mask.reshape(-1, *mask.shape[-2:]).float().cpu().clamp(0, 1)
    if not masks.any():
        raise ValueError("the mask is black everywhere, so nothing would move: paint white where the adapter shall act")
    return masks


def curve(value) -> Callable[[float], float] | None:
    """CURVE as a function of [0, 1], None where none is connected."""
    return None if value is None else CurveInput.from_raw(value).interp


def tracks_of(value: dict, width: int, height: int) -> Tracks:
    """TRACKS as det_core's tracks. `width`, `height`: the video's size in pixels, which core TRACKS do not carry.

    Raises: ValueError if the tracks are of another size of video.
    """
    if not isinstance(value, dict) or "track_path" not in value:
        raise ValueError("this is not TRACKS: it has no track_path")
    own = (value.get("width"), value.get("height"))
    if all(own) and own[0] * height != own[1] * width:
        raise ValueError(
            f"TRACKS belong to a video of {own[0]}x{own[1]} pixels, the latents to one of {width}x{height}: track "
            "the frames that you encode"
        )
    tracks = Tracks.from_comfy(value, *(own if all(own) else (width, height)))
    seen = tracks.points[tracks.visible]
    if len(seen) and ((seen < -0.05) | (seen > 1.05)).any(dim=-1).float().mean() > 0.5:
        raise ValueError(
            f"most points of TRACKS lie outside {width}x{height} pixels: they belong to a video of another size"
        )
    return tracks


def tracks_value(tracks: Tracks, width: int, height: int, still: torch.Tensor | None = None) -> dict:
    """TRACKS for core nodes, with the video's size beside them and, if known, which points only the camera moves."""
    known = {} if still is None else {"still": still}
    return {**tracks.to_comfy(width, height), "width": width, "height": height, **known}


def video_channels(model) -> int:
    """Channels of the latents of a MODEL's video; a format of several streams counts the most of them."""
    return getattr(model.model.diffusion_model, "latents_dim", model.model.latent_format.latent_channels)


def noise_mask_of(latent: dict) -> torch.Tensor | None:
    """The noise mask of the latents' video, if there is one."""
    mask = latent.get("noise_mask")
    return mask.unbind()[0] if mask is not None and mask.is_nested else mask


def video_latents(latent: dict, channels: int, spec: DiTSpec) -> torch.Tensor:
    """LATENT of one source video, (1, C, T, H, W), fit for the model. Raises ValueError naming both sides."""
    samples = latent["samples"]
    if samples.is_nested:  # video, then sound: adapters train on the video alone
        samples = next((stream for stream in samples.unbind() if stream.ndim == 5), None)
        if samples is None:
            raise ValueError("the latents hold sound and no video: connect the encoded video, alone or with its sound")
    if samples.ndim != 5:
        raise ValueError(
            f"the latents are pictures of shape {tuple(samples.shape)}, not a video: encode the frames with the "
            "VAE of the video model"
        )
    if samples.shape[1] != channels:
        raise ValueError(
            f"the latents have {samples.shape[1]} channels, {spec.name} needs {channels}: encode with the VAE of "
            "this model"
        )
    if samples.shape[0] != 1:
        raise ValueError(f"the latents hold {samples.shape[0]} videos: train on one video at a time")
    if samples.shape[2] < 2:
        raise ValueError("the latents have one frame: motion needs a video")
    if any(size % patch for size, patch in zip(samples.shape[2:], spec.patch, strict=True)):
        raise ValueError(
            f"latents of {tuple(samples.shape[2:])} do not divide into {spec.name}'s patches {spec.patch}: crop the "
            f"video to multiples of {spec.spatial_compression * spec.patch[1]} pixels and {spec.patch[0]} latent frames"
        )
    spec.frames.check(spec.frames.frames(samples.shape[2]))
    return samples


def check_track_length(tracks: Tracks, latent_frames: int, spec: DiTSpec) -> None:
    """Raises ValueError if the tracks are not those of the video that was encoded."""
    frames = spec.frames.frames(latent_frames)
    if tracks.frames != frames:
        raise ValueError(
            f"TRACKS have {tracks.frames} frames, but {latent_frames} latent frames of {spec.name} come from {frames}: "
            "track the same frames that you encode"
        )
    if not tracks.visible.any():
        raise ValueError("no point of TRACKS is visible in any frame: track again with another mask")


def latent_tracks(value: dict, latents: torch.Tensor, spec: DiTSpec) -> Tracks:
    """TRACKS of the video that `latents` (1, C, T, H, W) were encoded from. Raises ValueError if they are another's."""
    tracks = tracks_of(
        value, latents.shape[-1] * spec.spatial_compression, latents.shape[-2] * spec.spatial_compression
    )
    check_track_length(tracks, latents.shape[2], spec)
    return tracks


def head_map(value) -> HeadMap:
    """What came in as FYM_HEADS. Raises ValueError if it is something else."""
    if not isinstance(value, HeadMap):
        raise ValueError("this is not a head map: connect Classify Heads (Follow-Your-Motion)")
    return value

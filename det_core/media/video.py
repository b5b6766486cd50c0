"""Video and mask files: reading by PyAV and Pillow, writing H.264."""

import logging
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F

from ..files import atomic_write
from .frame_map import FrameMap

logger = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**30  # of decoded frames: a longer video would fill the memory of a usual machine
SMALLEST_SIDE_PX = 256  # players blur or refuse smaller videos: they are written larger


@dataclass(frozen=True)
class Video:
    """frames (T, H, W, 3) uint8 RGB; fps frames per second."""

    frames: torch.Tensor
    fps: float


def read_video(path: str | os.PathLike) -> Video:
    """All frames of a video file, upright.

    Raises: ValueError, one line with the path: no such file, not a video, no frame in it, or too large for memory.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such video: {path}")
    frames: list[torch.Tensor] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no picture in it (sound only?); give a video file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            fps = float(stream.average_rate or stream.guessed_rate or 24)
            for frame in container.decode(stream):
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                frames.append(torch.rot90(picture, round(frame.rotation / 90)))
                if len(frames) * picture.numel() > MOST_BYTES:
                    raise ValueError(
                        f"{path} is too long to hold in memory: {len(frames)} frames of "
                        f"{frame.width}x{frame.height} are {MOST_BYTES >> 30} GB; cut it to the seconds you need"
                    )
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        if not frames:
            raise ValueError(f"{path} is not a video that can be read ({_reason(error)})") from error
        logger.warning("%s is damaged after frame %d (%s): the rest is left out", path, len(frames) - 1, _reason(error))
    if not frames:
        raise ValueError(f"{path} has no frames in it")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError(f"{path} changes its picture size midway; convert it to one size first")
    return Video(torch.stack(frames), fps)


def write_video(path: str | os.PathLike, frames: torch.Tensor, fps: float) -> None:
    """Write an H.264 (yuv420p) .mp4 that plays everywhere, atomically.

    A small video is enlarged by a whole factor (every pixel a square) until its short side has 256 px. An odd side
    gets its last row or column twice, since yuv420p needs even sizes.

    Args: frames (T, H, W, 3) RGB, uint8 or float in [0, 1], on any device.
    Raises: ValueError for a wrong shape or rate; OSError where the file cannot be written.
    """
    import av

    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"a video to write is (frames, height, width, 3), got {tuple(frames.shape)}")
    if not 0 < fps < float("inf"):
        raise ValueError(f"a video cannot have {fps} frames per second")
    frames = _playable(as_uint8(frames).cpu())
    with atomic_write(path) as temporary:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "16"}
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())


def as_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Pictures as uint8; floats are clamped to [0, 1] first."""
    if frames.dtype == torch.uint8:
        return frames
    return (frames.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


def read_mask(path: str | os.PathLike, height: int, width: int) -> torch.Tensor:
    """The subject's mask in the first frame: a picture, or a folder whose first .png is taken.

    Grey above half of full white is subject; of a palette picture (as DAVIS has) every entry but the first is. A mask
    of another size is resized (nearest) with a warning.

    Returns: (height, width) bool.
    Raises: ValueError, one line with the path: no such file, not a picture, or nothing white in it.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if path.is_dir():
        pictures = sorted(path.glob("*.png"))
        if not pictures:
            raise ValueError(f"the mask folder {path} has no .png in it")
        path = pictures[0]
    if not path.is_file():
        raise ValueError(f"no such mask: {path}")
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                inside = np.array(image) != 0
            elif image.mode.startswith("I"):
                inside = np.array(image).astype(np.int64) > 32767
            else:
                inside = np.array(image.convert("L")) > 127
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} is not a picture that can be read: give the mask as .png") from error
    mask = torch.from_numpy(inside)
    if mask.shape != (height, width):
        logger.warning(
            "the mask %s is %dx%d, the video %dx%d: resized", path, mask.shape[1], mask.shape[0], width, height
        )
        mask = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0] > 0.5
    if not mask.any():
        raise ValueError(f"the mask {path} is empty: nothing in it is white; paint the moving subject white")
    return mask


def fit_frames(frames: torch.Tensor, count: int, *, codec: FrameMap, name: str = "the video") -> torch.Tensor:
    """Choose the frames a model takes: with stride frames // count from the first.

    Note: as the released DeT code chooses them; what is left over at the end is not used.

    Args:
        frames: (T, ...) any frames.
        count: frames wanted. codec: how the model's video codec takes them.
        name: of the video, for the message.
    Returns: (count, ...) a view of `frames`.
    Raises: ValueError that says what would be accepted, if `count` is none the model takes or there are too few frames.
    """
    codec.check(count)
    if len(frames) < count:
        rule = f"{count}" if codec.even else f"{codec.rule} = {count}"
        usable, _ = codec.nearest(len(frames))
        remedy = f" or ask for {usable} frames" if usable > 0 else ""
        raise ValueError(f"the model needs {rule} frames; {name} has {len(frames)}: use a longer clip{remedy}")
    return frames[:: len(frames) // count][:count]


def _playable(frames: torch.Tensor) -> torch.Tensor:
    factor = -(-SMALLEST_SIDE_PX // min(frames.shape[1:3]))
    if factor > 1:
        frames = frames.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    for axis in (1, 2):
        if frames.shape[axis] % 2:
            frames = torch.cat([frames, frames.narrow(axis, frames.shape[axis] - 1, 1)], dim=axis)
    return frames


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().splitlines()[0]

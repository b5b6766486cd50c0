"""Video files: reading by PyAV, frame by frame and upright; writing H.264."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch

from ..files import atomic_write
from .frame_map import FrameMap
from .orientation import upright

logger = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**30  # of a clip's frames, decoded: more would fill the memory of a usual machine
SMALLEST_SIDE_PX = 256  # players blur or refuse smaller videos: they are written larger
SLOWEST = Fraction(1, 1001)  # frames per second that a file can say
HDR = (16, 18)  # transfer functions PQ and HLG
COLOURS = 6  # SMPTE 170M: what the conversion from RGB makes, written down so that players need not guess


@dataclass(frozen=True)
class Video:
    """frames (T, H, W, 3) uint8 RGB; fps frames per second."""

    frames: torch.Tensor
    fps: float


@dataclass(frozen=True)
class VideoFile:
    """A video that has been looked through once, none of it kept: `frames` frames of `height` x `width`, upright, `fps`
    a second. Reading takes the memory of the frames that are asked for; a clip of more than 8 GB of frames is refused,
    whatever part of it is wanted.

    Convention: frames are those of an even clock. Where a file shows its own for unequal times (phones, screen
    recordings), the one that is shown at each tick is meant, so that a motion keeps its speed.
    """

    path: Path
    frames: int
    height: int
    width: int
    fps: float
    ticks: tuple[int, ...]  # per frame: which one of the file's own
    matrix: bytes | None  # how its pictures are to be turned, see `upright`

    @classmethod
    def open(cls, path: str | os.PathLike) -> VideoFile:
        """Raises: ValueError, one line with the path: no such file, not a video, no frame in it, or too large for
        memory."""
        path = Path(path)
        if path.is_dir():
            raise ValueError(f"{path} is a folder: give a video file")
        if not path.is_file():
            raise ValueError(f"no such video: {path}")
        times, first, claimed = [], None, None
        try:
            for frame, rate in _decoded(path):
                if first is None:
                    # Asked of one frame only: a frame that was asked for it stays in memory.
                    first, claimed, matrix = (frame.height, frame.width), rate, _matrix(frame)
                    height, width = upright(torch.empty(first, device="meta"), matrix).shape
                    _warn_of_looks(path, frame)
                if (frame.height, frame.width) != first:
                    raise ValueError(f"{path} changes its picture size midway; convert it to one size first")
                times.append(frame.time)
                _check_memory(path, len(times), height, width)
        except (av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
            if not times:
                raise ValueError(f"{path} is not a video that can be read ({_reason(error)})") from error
            logger.warning(
                "%s is damaged after frame %d (%s): the rest is left out", path, len(times) - 1, _reason(error)
            )
        if not times:
            raise ValueError(f"{path} has no frames in it")
        fps, ticks = _even_clock(times, float(claimed or 24))
        if ticks != list(range(len(times))):
            logger.warning(
                "%s shows its frames for unequal times: it is read at an even %.3g frames a second", path, fps
            )
        _check_memory(path, len(ticks), height, width)
        return cls(path, len(ticks), height, width, fps, tuple(ticks), matrix)

    def read(self, chosen: Sequence[int] | None = None) -> torch.Tensor:
        """(T, H, W, 3) uint8 RGB of the frames `chosen`, in rising order, or of all; nothing else is kept in memory.

        Raises: ValueError if the file has been changed since it was opened.
        """
        wanted = [self.ticks[i] for i in (range(self.frames) if chosen is None else chosen)]
        pictures = torch.empty(len(wanted), self.height, self.width, 3, dtype=torch.uint8)
        done = 0
        try:
            for number, (frame, _) in enumerate(_decoded(self.path)):
                if done < len(wanted) and wanted[done] == number:
                    picture = upright(_rgb(frame), self.matrix)
                    if picture.shape != pictures.shape[1:]:
                        break
                    while done < len(wanted) and wanted[done] == number:
                        pictures[done] = picture
                        done += 1
                if done == len(wanted):
                    return pictures
        except (av.error.FFmpegError, OSError):
            pass  # where it is damaged, opening has said so
        raise ValueError(f"{self.path} was changed while it was read: start again")


def read_video(path: str | os.PathLike) -> Video:
    """All frames of a video file, upright.

    Raises: ValueError, one line with the path: no such file, not a video, no frame in it, or too large for memory.
    """
    file = VideoFile.open(path)
    return Video(file.read(), file.fps)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The file's moving picture. It is given to FFmpeg as bytes: a name is never taken for an address, and a playlist
    opens nothing else."""
    with open(path, "rb") as file, av.open(file, metadata_errors="ignore") as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise ValueError(f"{path} has no picture in it (sound only?); give a video file")
        stream = max(streams, key=lambda s: bool(s.disposition & av.stream.Disposition.default))
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(path: Path) -> Iterator[tuple[av.VideoFrame, Fraction | None]]:
    """Every frame, and the rate that the file claims."""
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield frame, stream.average_rate or stream.guessed_rate


def _even_clock(times: list[float | None], claimed: float) -> tuple[float, list[int]]:
    """Frames per second, and which frame is shown at each tick. `times` in seconds, as the file has them."""
    own = list(range(len(times)))
    if None in times or len(times) < 2:
        return claimed, own
    steps = [after - before for before, after in zip(times, times[1:], strict=False)]
    if min(steps) <= 0:
        return claimed, own
    span = times[-1] - times[0]
    rate = len(steps) / span
    if all(abs(time - times[0] - i / rate) <= 0.75 / rate for i, time in enumerate(times)):
        return (claimed if abs(claimed - rate) <= 0.01 * rate else rate), own
    usual = 1 / median(steps)
    if usual * span <= 2 * len(times):  # else most of the clip is one still: its mean rate has to do
        rate = usual
    ticks, shown = [], 0
    for i in range(round(span * rate) + 1):
        while shown + 1 < len(times) and times[shown + 1] - times[0] <= (i + 1e-3) / rate:
            shown += 1
        ticks.append(shown)
    return rate, ticks


def _matrix(frame: av.VideoFrame) -> bytes | None:
    side = frame.side_data.get("DISPLAYMATRIX")
    return None if side is None else bytes(side)


def _rgb(frame: av.VideoFrame) -> torch.Tensor:
    """(H, W, 3) uint8, over black where it is transparent."""
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba").astype(np.uint16)
        picture = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    else:
        picture = frame.to_ndarray(format="rgb24")
    return torch.from_numpy(picture)


def _check_memory(path: Path, frames: int, height: int, width: int) -> None:
    if frames * height * width * 3 > MOST_BYTES:
        raise ValueError(
            f"{path} is too long to hold in memory: {frames} frames of {width}x{height} are more than "
            f"{MOST_BYTES / 2**30:.3g} GB; cut it to the seconds you need, or make it smaller"
        )


def _warn_of_looks(path: Path, frame: av.VideoFrame) -> None:
    if frame.interlaced_frame:
        logger.warning(
            "%s is interlaced: its combs will be learned, too; deinterlace it first (ffmpeg -vf yadif)", path
        )
    if frame.color_trc in HDR:
        logger.warning("%s is HDR: its colours are read pale; convert it to SDR for the right ones", path)


def write_video(path: str | os.PathLike, frames: torch.Tensor, fps: float) -> None:
    """Write an H.264 (yuv420p) .mp4 that plays everywhere, atomically.

    A small video is enlarged by a whole factor (every pixel a square) until its short side has 256 px. An odd side
    gets its last row or column twice, since yuv420p needs even sizes.

    Args: frames (T, H, W, 3) RGB, uint8 or float in [0, 1], on any device.
    Raises: ValueError for a wrong shape or rate; OSError where the file cannot be written.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"a video to write is (frames, height, width, 3), got {tuple(frames.shape)}")
    if not 0 < fps < float("inf"):
        raise ValueError(f"a video cannot have {fps} frames per second")
    frames = _playable(as_uint8(frames).cpu())
    with atomic_write(path) as temporary:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=max(SLOWEST, Fraction(fps).limit_denominator(1001)))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "16"}
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = COLOURS
            context.color_range = av.video.reformatter.ColorRange.MPEG
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())


def as_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Pictures as uint8; floats are clamped to [0, 1] first."""
    if frames.dtype == torch.uint8:
        return frames
    return (frames.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


def choose_frames(available: int, count: int, *, codec: FrameMap, name: str = "the video") -> range:
    """Which frames a model takes: with stride available // count from the first.

    Note: as the released DeT code chooses them; what is left over at the end is not used.

    Args:
        available: frames there are. count: frames wanted. codec: how the model's video codec takes them.
        name: of the video, for the message.
    Returns: `count` frame numbers; its `step` is the stride: the chosen frames play at the video's rate divided by it.
    Raises: ValueError that says what would be accepted, if the model does not take `count`, it is one frame (without
        motion), or there are too few frames.
    """
    codec.check(count)
    if count < 2:
        raise ValueError(f"one frame has no motion: ask for {codec.nearest(count)[1]} frames or more")
    if available < count:
        rule = f"{count}" if codec.even else f"{codec.rule} = {count}"
        usable, _ = codec.nearest(available)
        remedy = f" or ask for {usable} frames" if usable > 1 else ""
        raise ValueError(f"the model needs {rule} frames; {name} has {available}: use a longer clip{remedy}")
    stride = available // count
    return range(0, stride * count, stride)


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

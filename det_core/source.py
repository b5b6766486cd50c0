"""The source video of a job: read, checked, thinned to what the model takes, and tracked. No model is needed for it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from .media.card import card
from .media.frame_map import FrameMap
from .media.masks import read_mask
from .media.rate import Timed, shortened, timed
from .media.video import VideoFile, choose_frames
from .models.embedded.base_model import sprite_tracks
from .models.embedded.carried import carried_clip
from .models.embedded.reader import read_clip
from .models.embedded.world.parts import read_tracks
from .models.families import DiTSpec
from .tracking.draw import draw_tracks
from .tracking.foreground import foreground_mask
from .tracking.subject import QUERY_POINTS, subject_points, track_subject
from .tracking.trackers import resolve_tracker
from .tracking.tracks import Tracks, sample_query_points

log = logging.getLogger(__name__)

CARRY = ("picture", "still")
CARD_PX = 256  # height of the frames that a card is made of
SPRITE = "sprite"  # reads clips of the embedded model's own kind


@dataclass(frozen=True)
class Source:
    """The source video as a job needs it.

    frames: (T, H, W, 3) uint8, the chosen ones at their own size. pixels: the same at the model's size, float32 in
        [0, 1]. tracks: over the same frames. fps: at which the chosen frames play at the clip's speed. digest: of the
        file.
    """

    name: str
    digest: str
    fps: float
    frames: torch.Tensor
    pixels: torch.Tensor
    tracks: Tracks
    caption: str = ""  # what the frames show, where they were drawn anew; else the user's own

    def describe(self) -> str:
        """What an adapter file says of it: JSON."""
        size = list(self.pixels.shape[1:3])
        fields = {"name": self.name, "sha256": self.digest, "fps": self.fps, "frames": len(self.frames), "size": size}
        return json.dumps(fields)

    def card(self, caption: str) -> dict[str, str]:
        """Metadata that shows the source and its tracks, for a file of its motion."""
        height, width = self.pixels.shape[1:3]
        small = resize_frames(self.frames, CARD_PX, max(1, round(width * CARD_PX / height)))
        return card(draw_tracks(small, self.tracks), title=Path(self.name).stem, description=caption)


@dataclass(frozen=True)
class SourceFiles:
    """What the user gives of a source.

    mask: picture (or folder of pictures) of the moving subject; without one the foreground is found by its motion.
    tracks: a file of the user's own tracks over the whole video, instead of a tracker.
    tracker: "auto", "cotracker", "dis", "lk", or, for clips of the embedded model's own kind, "sprite".
    frames, size: other than the model's own number of frames and (height, width).
    fps: frames a second to use of the video, 0 the model's own; None: every frame, whatever its rate.
    longer: what happens to a longer video, one of `rate.LONGER`; None: it is thinned as the paper's code does
        (`choose_frames`), or cut where `fps` is given.
    carry: for the embedded model, which knows nothing of real videos: draw a disc that moves as the subject does. One
        of CARRY: as it moves in the picture, or as a camera that rests would have seen it.
    """

    video: Path
    mask: Path | None = None
    tracks: Path | None = None
    tracker: str = "auto"
    frames: int | None = None
    size: tuple[int, int] | None = None
    carry: str | None = None
    fps: float | None = None
    longer: str | None = None


def load_source(files: SourceFiles, spec: DiTSpec, *, device: torch.device | str = "cpu", seed: int = 0) -> Source:
    """Read, check, resize and track a source video for the model `spec`.

    Args: device: where a tracker works. seed: draws the points to track.
    Raises: ValueError, one line, for anything wrong with the files; before anything is tracked, but for tracks of which
        nothing is seen.
    """
    height, width = model_size(spec, files.size)
    if files.carry is not None:
        return _carried(files, spec, seed)
    clip = VideoFile.open(files.video)
    used = frames_used(files, clip.frames, clip.fps, spec)
    chosen = list(used.frames)
    if files.mask is not None:
        read_mask(files.mask, clip.height, clip.width)
    if files.tracks is not None:
        tracks = _own_tracks(files, clip, chosen)
        frames = clip.read(chosen)
        pixels = resize_frames(frames, height, width)
    else:
        check_tracker(files.tracker, spec)
        # Trackers rely on small steps: they see every frame from the first chosen one to the last.
        passed = clip.read(range(chosen[0], chosen[-1] + 1))
        among = [number - chosen[0] for number in chosen]
        frames = passed[among]
        pixels = resize_frames(frames, height, width)
        tracks = _tracked(files, spec, passed, among, pixels, device, seed)
    if not tracks.visible.any():
        raise ValueError("no tracked point is visible in any chosen frame; give another --mask, --tracker or --tracks")
    if not (tracks.visible[:, 1:] & tracks.visible[:, :-1]).any():
        log.warning(
            "no point is seen in two chosen frames in a row: the tracking loss has nothing to hold on to, and motion "
            "fidelity cannot be measured; better give another --mask or --tracker, or cut the clip at its jumps"
        )
    if used.said:
        log.info("%d of %d frames are used: %s", len(chosen), clip.frames, used.said)
    return Source(files.video.name, _digest(files.video), used.fps, frames, pixels, tracks)


def check_tracker(name: str, spec: DiTSpec) -> None:
    """Raises: ValueError if the tracker is none that can be used with this model."""
    if name != SPRITE:
        resolve_tracker(name)
    elif not spec.family.of_sprites:
        raise ValueError("--tracker sprite reads clips of the embedded model's kind: use auto with this model")


def frames_used(files: SourceFiles, frames: int, fps: float, spec: DiTSpec) -> Timed:
    """Which of a video's `frames`, at `fps` a second, stand for it. Raises: ValueError as `choose_frames`."""
    count = spec.defaults.frames if files.frames is None else files.frames
    wanted = spec.defaults.fps if files.fps == 0 else files.fps
    return chosen_frames(frames, fps, count, spec.frames, name=str(files.video), wanted=wanted, longer=files.longer)


def chosen_frames(
    available: int, fps: float, count: int, codec: FrameMap, *, name: str, wanted: float | None, longer: str | None
) -> Timed:
    """Which `count` of a video's frames, at `fps` a second, stand for it: at `wanted` frames a second; None: every
    frame, whatever its rate. longer: see `SourceFiles`. Raises: ValueError as `choose_frames`."""
    if wanted is None and longer is None:
        chosen = choose_frames(available, count, codec=codec, name=name)
        said = f"one frame in {chosen.step}" if chosen.step > 1 else ""
        return Timed(tuple(chosen), fps / chosen.step, said)
    clip = timed(available, fps, wanted or 0.0)
    at_rate = f"{name} at {clip.fps:.4g} frames a second"
    choose_frames(len(clip.frames), count, codec=codec, name=at_rate)  # refuses what is too short
    return shortened(clip, count, longer or "cut")


def _carried(files: SourceFiles, spec: DiTSpec, seed: int) -> Source:
    """The embedded model's source that moves as the subject of a real video does."""
    if not spec.family.of_sprites:
        raise ValueError("--carry redraws a video for the embedded model; this model takes the video as it is")
    own = (files.tracks, files.frames, files.size, files.fps, files.longer)
    if any(asked is not None for asked in own) or files.tracker != "auto":
        raise ValueError(
            "--carry draws 9 frames of 64x64 pixels of its own, and reads where its disc is: leave out --tracks, "
            "--tracker, --frames, --size, --fps, --longer"
        )
    clip = VideoFile.open(files.video)
    video = clip.read(range(clip.frames))
    mask = foreground_mask(video) if files.mask is None else read_mask(files.mask, clip.height, clip.width)
    drawn = carried_clip(video, mask, camera=files.carry == "picture")
    reading = read_clip(drawn.frames)
    points = sample_query_points(reading.first_mask, QUERY_POINTS, generator=torch.Generator().manual_seed(seed))
    log.info("the subject of %s is carried over: %s moves as it does", files.video, drawn.scene.caption)
    fps = clip.fps * (len(drawn.frames) - 1) / (clip.frames - 1)
    frames = (drawn.frames * 255).round().to(torch.uint8)
    tracks = sprite_tracks(reading, points)
    return Source(files.video.name, _digest(files.video), fps, frames, drawn.frames, tracks, drawn.scene.caption)


def _digest(video: Path) -> str:
    return hashlib.sha256(video.read_bytes()).hexdigest()[:16]


def model_size(spec: DiTSpec, size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) in pixels; None: the model's own. Raises: ValueError if it does not divide into patches."""
    height, width = (spec.defaults.height, spec.defaults.width) if size is None else size
    cell = spec.spatial_compression * spec.patch[1]
    if height % cell or width % cell:
        raise ValueError(f"{spec.name} needs a height and width that are multiples of {cell}, got {height}x{width}")
    if spec.family.of_sprites and (height, width) != (spec.defaults.height, spec.defaults.width):
        raise ValueError(f"{spec.name} draws 64x64 pixels, got {height}x{width}: leave out --size")
    return height, width


def resize_frames(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(T, H, W, 3) uint8 -> (T, height, width, 3) float32 in [0, 1]. Aspect is not kept, as in the paper's own data:
    normalised track positions stay valid."""
    resized = [_resized(frame, height, width) for frame in frames]  # one by one: the whole clip is large as floats
    return torch.stack(resized)


def _resized(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    channels_first = frame.permute(2, 0, 1)[None].float() / 255
    if channels_first.shape[-2:] != (height, width):
        channels_first = F.interpolate(
            channels_first, (height, width), mode="bilinear", antialias=True, align_corners=False
        )
    return channels_first[0].permute(1, 2, 0).contiguous()


def _own_tracks(files: SourceFiles, clip: VideoFile, chosen: list[int]) -> Tracks:
    found = Tracks.load(files.tracks)
    if found.frames != clip.frames:
        raise ValueError(
            f"{files.tracks} has tracks over {found.frames} frames but {files.video} has {clip.frames}; "
            "track this video"
        )
    return replace(found.at(chosen), tracker=found.tracker or "user")


def _tracked(
    files: SourceFiles,
    spec: DiTSpec,
    frames: torch.Tensor,
    chosen: list[int],
    pixels: torch.Tensor,
    device: torch.device | str,
    seed: int,
) -> Tracks:
    """Tracks at the `chosen` ones of `frames`; `pixels` are those at the model's size."""
    if spec.family.of_world and files.tracker in ("auto", SPRITE):
        found = read_tracks(pixels, QUERY_POINTS, torch.Generator().manual_seed(seed))
        if found is not None:
            return found
    if spec.family.of_sprites and files.tracker in ("auto", SPRITE):
        reading = read_clip(pixels)
        if reading.is_corpus_clip:
            if files.mask is not None:
                return sprite_tracks(reading, subject_points(frames, files.mask, seed))
            generator = torch.Generator().manual_seed(seed)
            return sprite_tracks(reading, sample_query_points(reading.first_mask, QUERY_POINTS, generator=generator))
        log.warning(
            "the embedded model knows coloured shapes only, and what it draws after a real video falls to pieces: "
            "--carry draws a disc that moves as the subject does"
        )
        if files.tracker == SPRITE:
            raise ValueError("--tracker sprite reads clips of the embedded model's kind; this video is none: use auto")
    found = track_subject(frames, files.mask, tracker=files.tracker, device=str(device), seed=seed)
    return found.at(chosen)

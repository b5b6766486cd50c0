"""Measure one generated video against its source and its prompt. Two rulers: one for the embedded model's clips, which
can be read exactly, one for real videos (a tracker, CLIP and DINO)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from .media.frame_map import FrameMap
from .media.video import VideoFile, read_video
from .metrics import edit_fidelity, temporal_consistency
from .metrics.features import ClipFeatures, VisionFeatures
from .metrics.motion import matching_of, motion_fidelity
from .models.embedded.base_model import consistency, read_clip, scene_of, sprite_path
from .models.embedded.world.parts import camera_places, limb_ends, moving, object_paths, swinging
from .models.embedded.world.reader import WorldReading, read_world
from .models.embedded.world.scene import world_of
from .source import chosen_frames
from .tracking.subject import track_subject
from .tracking.trackers import resolve_tracker, track_again
from .tracking.tracks import Tracks

if TYPE_CHECKING:
    from .models.base_model import BaseModel
    from .source import Source


log = logging.getLogger(__name__)

ANY_LENGTH = FrameMap((), (1,))


@dataclass(frozen=True)
class Measurement:
    """All in [0, 1] but CLIP's edit fidelity (cosine x 100); None is "not measured", `reasons` may say why.

    coverage: share of the source's steps that the video shows as well; see `MotionScore`.
    """

    motion_fidelity: float | None = None
    coverage: float | None = None
    edit_fidelity: float | None = None
    temporal_consistency: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    def scores(self) -> dict[str, float | None]:
        """The values alone."""
        return {name: getattr(self, name) for name in METRICS}


TRACK_FILES = (".safetensors", ".npz", ".pth")
METRICS = ("motion_fidelity", "coverage", "edit_fidelity", "temporal_consistency")


TRACKERS = ("cotracker", "dis", "lk")  # that can follow a generated video as well


class Ruler(Protocol):
    description: str

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        """Measure `frames` (T, H, W, 3) in [0, 1]."""


def object_path(tracks: Tracks) -> Tracks:
    """One track for a whole object: the mean of its points' steps, summed up from their first mean position.

    Steps are averaged over points visible at both ends, so that a point that disappears does not pull the path."""
    both = tracks.visible[:, 1:] & tracks.visible[:, :-1]
    steps = (tracks.points[:, 1:] - tracks.points[:, :-1]) * both[..., None]
    mean_step = steps.sum(0) / both.sum(0).clamp(min=1)[:, None]
    there = tracks.visible[:, 0]
    start = tracks.points[there if there.any() else slice(None), 0].mean(0, keepdim=True)
    path = torch.cat([start, start + mean_step.cumsum(0)])
    return Tracks(path[None], torch.cat([both.any(0)[:1], both.any(0)])[None], tracks.tracker)


def followed(source: Tracks, generated: Tracks, matching: str = "index") -> Measurement:
    """Motion fidelity and coverage; where the video shows too little of the source's motion, the reason why not."""
    try:
        score = motion_fidelity(source, generated, matching=matching)
    except ValueError as error:
        return Measurement(reasons={"motion_fidelity": str(error)})
    if score.measured:
        return Measurement(score.score, score.coverage)
    return Measurement(coverage=score.coverage, reasons={"motion_fidelity": score.doubt})


class SpriteRuler:
    """For the embedded model: the sprite's path, colour, shape and background are read from the pixels."""

    description = (
        "sprite reader (path of the sprite's centre; shares of frames with the prompted colour, shape, background)"
    )

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        reading = read_clip(frames)
        scene = scene_of(prompt)
        source_reading = read_clip(source.pixels)
        wanted = sprite_path(source_reading) if source_reading.is_corpus_clip else object_path(source.tracks)
        found = followed(wanted, sprite_path(reading)) if reading.seen.any() else Measurement(0.0, 0.0)
        edit = scene and reading.agreement(scene)["edit_fidelity"]
        return replace(found, edit_fidelity=edit, temporal_consistency=consistency(reading))


class WorldRuler:
    """For embedded model 2: what moves in the source is compared part by part, the objects as a camera at rest would
    see them, their limbs, and the camera; motion fidelity is the mean over the parts that move in the source."""

    description = "world reader (paths of objects, limbs and camera; shares of frames with the prompted looks)"

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        reading, wanted, world = read_world(frames), read_world(source.pixels), world_of(prompt)
        parts = self.parts(wanted, reading)
        if not parts:
            return Measurement(reasons={"motion_fidelity": "nothing in the source moves that the world's reader knows"})
        scores = list(parts.values())
        edit = world and sum(reading.agreement(world)[key] for key in ("colour", "shape", "background")) / 3
        return Measurement(
            sum(one.motion_fidelity or 0.0 for one in scores) / len(scores),
            sum(one.coverage or 0.0 for one in scores) / len(scores),
            edit,
            float(reading.ground.right.float().mean()),
        )

    def parts(self, source: WorldReading, video: WorldReading) -> dict[str, Measurement]:
        """Motion fidelity of each part that moves in the source; 0 for a part that the video has not."""
        found = {}
        for part in sorted(moving(source)):
            if part == "camera":
                found[part] = followed(camera_places(source), camera_places(video))
            elif part == "objects":
                paths = object_paths(video)
                several = max(len(source.objects), len(video.objects)) > 1
                matching = "best" if several else "index"
                found[part] = Measurement(0.0, 0.0)
                if paths is not None:
                    found[part] = followed(object_paths(source), paths, matching)
            else:
                figure = next(one for one in source.objects if swinging(one))
                limbs, alike = swinging(figure), [one for one in video.objects if one.kind == figure.kind]
                found[part] = Measurement(0.0, 0.0)
                if alike:
                    found[part] = followed(limb_ends(figure, limbs), limb_ends(alike[0], limbs))
        return found


class VideoRuler:
    """For real videos: one tracker on both sides, from the same points; CLIP and DINO where they are given."""

    def __init__(self, device: str, clip: Path | ClipFeatures | None = None, dino: Path | VisionFeatures | None = None):
        self.device, self.clip, self.dino = device, clip, dino
        self.description = f"tracks of the same points; CLIP {clip or 'not given'}; DINO {dino or 'not given'}"
        self._reference: tuple[Source, Tracks] | None = None

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measurement:
        return replace(
            followed(*self.tracked(frames, source)),
            edit_fidelity=edit_fidelity(frames, prompt, clip=self.clip) if self.clip else None,
            temporal_consistency=temporal_consistency(frames, dino=self.dino) if self.dino else None,
        )

    def tracked(self, frames: torch.Tensor, source: Source) -> tuple[Tracks, Tracks]:
        """The tracks of the source and of the video (T, H, W, 3), by one tracker from the same points."""
        wanted = self._source_tracks(source)
        return wanted, track_again(frames, wanted, tracker=wanted.tracker, device=self.device)

    def _source_tracks(self, source: Source) -> Tracks:
        """Those that training used, or, where they came with the data or of a tracker that is not here, made anew from
        their own starting points."""
        if source.tracks.tracker in TRACKERS and _is_here(source.tracks.tracker):
            return source.tracks
        if self._reference is None or self._reference[0] is not source:
            name = resolve_tracker("auto")
            made = track_again(source.pixels, source.tracks, tracker=name, device=self.device)
            self._reference = source, made
        return self._reference[1]


def _is_here(tracker: str) -> bool:
    try:
        return resolve_tracker(tracker) == tracker
    except ValueError:
        return False


def ruler_for(model: BaseModel, clip: Path | None = None, dino: Path | None = None) -> Ruler:
    """The ruler that fits a base model."""
    family = model.denoiser.spec.family
    if family.of_world:
        return WorldRuler()
    if family.of_sprites:
        return SpriteRuler()
    return VideoRuler(str(model.denoiser.device), clip, dino)


def evaluate_files(
    source: Path,
    generated: Path,
    *,
    mask: Path | None = None,
    tracker: str = "auto",
    prompt: str | None = None,
    clip: Path | None = None,
    dino: Path | None = None,
    device: str = "cpu",
    fps: float | None = None,
    longer: str | None = None,
) -> dict:
    """All scores that the given files allow; the others are None, and "not_measured" says why.

    Videos are tracked with one tracker from the same query points. Of a source that is longer than the generated video
    those frames count that a training of so many frames looks at: `SourceFiles` says what fps and longer choose. Where
    the source is the shorter one, both are taken to span the same time.
    """
    got = Tracks.load(generated) if generated.suffix in TRACK_FILES else None
    frames = read_video(generated).frames if got is None else None
    count = len(frames) if got is None else got.frames
    wanted = _compared_tracks(source, count, mask, tracker, device, fps, longer)
    if got is None:
        got = track_again(frames, wanted, tracker=tracker, device=device)
    matching = matching_of(wanted.resample(got.frames), got)
    got = got.resample(wanted.frames)
    pixels = None if frames is None else frames.float() / 255
    found = followed(wanted, got, matching)
    missing = _missing(pixels is not None, prompt, clip, dino)
    return {
        "motion_fidelity": found.motion_fidelity,
        "coverage": found.coverage,
        "not_measured": found.reasons | missing,
        "motion_fidelity_reference_code": by_reference_code(wanted, got),
        "matching": matching,
        "tracker": {"source": wanted.tracker, "generated": got.tracker},
        "edit_fidelity": None if "edit_fidelity" in missing else edit_fidelity(pixels, prompt, clip=clip),
        "temporal_consistency": None if "temporal_consistency" in missing else temporal_consistency(pixels, dino=dino),
    }


def by_reference_code(wanted: Tracks, got: Tracks) -> float | None:
    """Motion fidelity as the paper's released code counts it; None where that cannot be said."""
    try:
        return float(motion_fidelity(wanted, got, variant="reference_code"))
    except ValueError:
        return None


def _compared_tracks(
    source: Path, count: int, mask: Path | None, tracker: str, device: str, fps: float | None, longer: str | None
) -> Tracks:
    """The source's tracks over the frames that stand for it in a video of `count` frames."""
    tracked = source.suffix in TRACK_FILES
    if tracked and fps is not None:
        raise ValueError(f"{source} holds tracks, which have no rate: leave out --fps, or give the video")
    given = Tracks.load(source) if tracked else VideoFile.open(source)
    there, rate = given.frames, 0.0 if tracked else given.fps
    chosen = list(range(there))
    if there > count or fps is not None:
        chosen = list(chosen_frames(there, rate, count, ANY_LENGTH, name=str(source), wanted=fps, longer=longer).frames)
        log.info("%d of the source's %d frames are compared, from %d to %d", count, there, chosen[0], chosen[-1])
    if tracked:
        return given.at(chosen)
    passed = given.read(range(chosen[0], chosen[-1] + 1))
    return track_subject(passed, mask, tracker=tracker, device=device).at([number - chosen[0] for number in chosen])


def _missing(pictures: bool, prompt: str | None, clip: Path | None, dino: Path | None) -> dict[str, str]:
    """What cannot be measured of the looks, and what it would take."""
    need = {"edit_fidelity": {"--prompt": prompt, "--clip": clip}, "temporal_consistency": {"--dino": dino}}
    found = {}
    for name, tools in need.items():
        absent = [tool for tool, given in tools.items() if not given] + ([] if pictures else ["a generated video"])
        if absent:
            found[name] = f"needs {' and '.join(absent)}"
    return found

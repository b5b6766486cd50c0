"""Benchmark folders: find the cases, read and check each one. Reads MTBench as published and a flatter form of it.

A case is a folder `<case>/` with
    videos/<case>.mp4      or <case>.mp4                    the source video
    prompts.txt                                             its caption, one line
    eval_prompts.txt                                        prompts to transfer the motion to, one a line
    masks/<case>/00000.png or masks/00000.png               the subject in the first frame (later frames may follow)
    trajectories/<case>.pth or trajectories.npz             tracks over all frames (optional; also .safetensors)
    first_frames/*.png                                      what each prompt's video starts with (optional), in order
Cases may lie one level deeper, in groups. Everything found wrong with a case is one line; other cases are not affected.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..tracking.tracks import Tracks
from .difficulty import count_clusters, level

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
TRACK_SUFFIXES = (".safetensors", ".npz", ".pth")
PARTS = ("videos", "masks", "trajectories")


@dataclass(frozen=True)
class Case:
    """One source video with what is known about it. `tracks` and with it `clusters` may be missing."""

    name: str  # path below the benchmark's folder, with /
    video: Path
    caption: str
    prompts: tuple[str, ...]
    mask: Path
    tracks: Path | None = None
    clusters: int | None = None
    first_frames: tuple[Path, ...] = ()  # one a prompt, or none

    @property
    def difficulty(self) -> str:
        """ "easy", "medium", "hard", or "unknown" without tracks."""
        return "unknown" if self.clusters is None else level(self.clusters)


@dataclass(frozen=True)
class BadCase:
    """A case that cannot be used, and why, in one line."""

    name: str
    reason: str


def read_cases(root: Path) -> tuple[list[Case], list[BadCase]]:
    """All usable cases below `root`, and the others with their reasons, both in order of name.

    Raises: ValueError if the folder is missing or holds no usable case.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no such benchmark folder: {root}")
    cases, bad = [], []
    for folder in _case_folders(root):
        name = folder.relative_to(root).as_posix()
        try:
            cases.append(read_case(folder, name))
        except (ValueError, OSError) as error:
            bad.append(BadCase(name, " ".join(str(error).split())))
    if not cases:
        first = f"; the first of {len(bad)} bad ones is {bad[0].name}: {bad[0].reason}" if bad else ""
        raise ValueError(f"{root} holds no usable case{first}")
    return cases, bad


def read_case(folder: Path, name: str | None = None) -> Case:
    """Read and check one case folder.

    Raises: ValueError, one line, for the first thing that is missing or does not fit.
    """
    from ..media.masks import read_mask
    from ..media.video import read_video

    video = _video(folder)
    caption = _lines(folder / "prompts.txt", "the caption of the source video, one line")[0]
    prompts = _lines(folder / "eval_prompts.txt", "the prompts to transfer the motion to, one a line")
    check_distinct(prompts, "eval_prompts.txt")
    frames = read_video(video).frames
    mask = _mask(folder)
    read_mask(mask, *frames.shape[1:3])
    tracks = _tracks(folder)
    clusters = None
    if tracks is not None:
        found = Tracks.load(tracks)
        if found.frames != len(frames):
            raise ValueError(f"{tracks.name} has tracks over {found.frames} frames, the video has {len(frames)} frames")
        clusters = count_clusters(found)
    pictures = tuple(sorted((folder / "first_frames").glob("[!.]*.png")))
    if len(pictures) not in (0, len(prompts)):
        raise ValueError(f"first_frames has {len(pictures)} pictures for {len(prompts)} prompts: give one for each")
    return Case(folder.name if name is None else name, video, caption, tuple(prompts), mask, tracks, clusters, pictures)


def fingerprint(cases: Iterable[Case]) -> str:
    """A hash of what the cases hold: names, texts, the bytes of video and mask, the values of the tracks."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update("\0".join([case.name, case.caption, *case.prompts]).encode())
        for path in (case.video, case.mask, *case.first_frames):
            digest.update(path.read_bytes())
        if case.tracks is not None:
            tracks = Tracks.load(case.tracks)
            digest.update(tracks.points.numpy().tobytes() + tracks.visible.numpy().tobytes() + tracks.tracker.encode())
    return digest.hexdigest()[:16]


def _case_folders(root: Path) -> Iterator[Path]:
    for folder in _folders(root):
        children = _folders(folder)
        is_group = children and not any(child.name in PARTS for child in children) and not _files(folder)
        yield from children if is_group else [folder]


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _video(folder: Path) -> Path:
    for place in (folder / "videos", folder):
        found = [p for p in _files(place) if p.suffix.lower() in VIDEO_SUFFIXES] if place.is_dir() else []
        named = [p for p in found if p.stem == folder.name]
        if len(named) == 1 or len(found) == 1:
            return (named or found)[0]
        if found:
            raise ValueError(f"several videos in {place.name}/ and none called {folder.name}.mp4: keep one")
    raise ValueError(f"no video: put the source at {folder.name}/{folder.name}.mp4")


def _lines(path: Path, what: str) -> list[str]:
    if not path.is_file():
        raise ValueError(f"no {path.name}: it holds {what}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path.name} is empty: it holds {what}")
    return lines


def check_distinct(prompts: list[str], where: str) -> None:
    """Raises: ValueError if a prompt stands there twice: its two videos would be one."""
    twice = [prompt for prompt, count in Counter(prompts).items() if count > 1]
    if twice:
        raise ValueError(f'{where} has the prompt "{twice[0]}" more than once: reword one')


def _mask(folder: Path) -> Path:
    for place in (folder / "masks" / folder.name, folder / "masks"):
        pictures = sorted(place.glob("[!.]*.png")) if place.is_dir() else []
        if pictures:
            return pictures[0]
    raise ValueError(f"no mask: put the subject of the first frame, white on black, at {folder.name}/masks/00000.png")


def _tracks(folder: Path) -> Path | None:
    for stem in (folder / "trajectories" / folder.name, folder / "trajectories"):
        for suffix in TRACK_SUFFIXES:
            path = stem.with_name(stem.name + suffix)
            if path.is_file():
                return path
    return None

"""Make a benchmark of your own clips: check them, find or take masks, track, judge the difficulty, write the cases."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import torch
from PIL import Image

from ..files import atomic_write
from ..media.masks import read_mask
from ..media.video import read_video
from ..tracking.subject import follow_subject
from ..tracking.trackers import resolve_tracker
from .layout import VIDEO_SUFFIXES, BadCase, Case, read_case

log = logging.getLogger(__name__)

POINTS = 100  # tracks per case, as in MTBench


def annotate(
    clips: Path, captions: Path, out: Path, *, masks: Path | None = None, tracker: str = "auto", device: str = "cpu"
) -> tuple[list[Case], list[BadCase]]:
    """Write one benchmark case per video in the folder `clips`.

    Args:
        captions: JSON file {"clip name without suffix": {"caption": "...", "prompts": ["...", ...]}}.
        out:      the benchmark folder; cases that are already there and whole are kept.
        masks:    folder of <clip>.png or <clip>/*.png, white on black; without one the subject is found by its motion.
    Returns: the cases, and the clips that could not be used with their reasons.
    Raises: ValueError if there are no videos, two have one name, the captions file cannot be read, or masks or tracker
        are not there.
    """
    videos = (
        sorted(p for p in Path(clips).iterdir() if p.suffix.lower() in VIDEO_SUFFIXES) if Path(clips).is_dir() else []
    )
    if not videos:
        raise ValueError(f"{clips} holds no videos ({', '.join(VIDEO_SUFFIXES)})")
    twice = sorted({video.stem for video in videos if sum(other.stem == video.stem for other in videos) > 1})
    if twice:
        raise ValueError(f"{clips} has more than one video of the name {', '.join(twice)}: rename all but one")
    if masks is not None and not masks.is_dir():
        raise ValueError(f"there is no folder of masks {masks}")
    resolve_tracker(tracker)
    texts = _captions(captions)
    cases, bad = [], []
    for video in videos:
        folder = Path(out) / video.stem
        try:
            if not (folder / "trajectories.safetensors").is_file():  # written last
                _write_case(video, texts.get(video.stem), folder, masks, tracker, device)
            case = read_case(folder)
        except (ValueError, OSError) as error:
            bad.append(BadCase(video.stem, " ".join(str(error).split())))
            log.warning("%s is left out: %s", video.name, bad[-1].reason)
            continue
        cases.append(case)
        log.info("%s: %s clusters of tracks, %s", case.name, case.clusters, case.difficulty)
    return cases, bad


def _captions(path: Path) -> dict[str, dict]:
    try:
        texts = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a JSON file of captions: {error}") from error
    if not isinstance(texts, dict):
        raise ValueError(f'{path} must map clip names to {{"caption": ..., "prompts": [...]}}')
    return texts


def _write_case(video: Path, text: dict | None, folder: Path, masks: Path | None, tracker: str, device: str) -> None:
    if not isinstance(text, dict) or not text.get("caption") or not text.get("prompts"):
        raise ValueError(f'the captions file has no "caption" and "prompts" for {video.stem}')
    if not isinstance(text["prompts"], list) or not all(isinstance(line, str) for line in text["prompts"]):
        raise ValueError(f'"prompts" of {video.stem} in the captions file must be a list of texts')
    frames = read_video(video).frames
    mask = _mask_of(video, masks, frames)
    generator = torch.Generator().manual_seed(0)
    tracks = follow_subject(frames, mask, generator, POINTS, tracker=tracker, device=device)
    with atomic_write(folder / video.name) as temporary:
        shutil.copyfile(video, temporary)
    for name, lines in (("prompts.txt", [text["caption"]]), ("eval_prompts.txt", text["prompts"])):
        with atomic_write(folder / name) as temporary:
            temporary.write_text("".join(f"{' '.join(line.split())}\n" for line in lines), encoding="utf-8")
    with atomic_write(folder / "masks" / "00000.png") as temporary:
        Image.fromarray((mask.numpy() * 255).astype("uint8")).save(temporary)
    tracks.save(folder / "trajectories.safetensors")


def _mask_of(video: Path, masks: Path | None, frames: torch.Tensor) -> torch.Tensor:
    if masks is not None:
        for path in (masks / f"{video.stem}.png", masks / video.stem):
            if path.exists():
                return read_mask(path, *frames.shape[1:3])
        log.warning("%s has no mask for %s: the subject is found by its motion", masks, video.stem)
    from ..tracking.foreground import foreground_mask

    return foreground_mask(frames)

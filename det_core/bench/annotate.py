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
from .layout import VIDEO_SUFFIXES, BadCase, Case, check_distinct, read_case

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
        sorted(p for p in Path(clips).iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.name[0] != ".")
        if Path(clips).is_dir()
        else []
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
    caption, prompts = _texts_of(video.stem, text)
    frames = read_video(video).frames
    mask = _mask_of(video, masks, frames)
    generator = torch.Generator().manual_seed(0)
    tracks = follow_subject(frames, mask, generator, POINTS, tracker=tracker, device=device)
    with atomic_write(folder / video.name) as temporary:
        shutil.copyfile(video, temporary)
    for name, lines in (("prompts.txt", [caption]), ("eval_prompts.txt", prompts)):
        with atomic_write(folder / name) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with atomic_write(folder / "masks" / "00000.png") as temporary:
        Image.fromarray((mask.numpy() * 255).astype("uint8")).save(temporary)
    tracks.save(folder / "trajectories.safetensors")


def _texts_of(name: str, text: object) -> tuple[str, list[str]]:
    """Caption and prompts of a clip, a line each, as `read_case` takes them."""
    if not isinstance(text, dict) or not text.get("caption") or not text.get("prompts"):
        raise ValueError(f'the captions file has no "caption" and "prompts" for {name}')
    given = [text["caption"], *text["prompts"]] if isinstance(text["prompts"], list) else []
    if not given or not all(isinstance(line, str) and line.strip() for line in given):
        raise ValueError(f'in the captions file "caption" of {name} must be a text and "prompts" a list of texts')
    caption, *prompts = (" ".join(line.split()) for line in given)
    check_distinct(prompts, f"{name} in the captions file")
    return caption, prompts


def _mask_of(video: Path, masks: Path | None, frames: torch.Tensor) -> torch.Tensor:
    if masks is not None:
        for path in (masks / f"{video.stem}.png", masks / video.stem):
            if path.exists():
                return read_mask(path, *frames.shape[1:3])
        log.warning("%s has no mask for %s: the subject is found by its motion", masks, video.stem)
    from ..tracking.foreground import foreground_mask

    return foreground_mask(frames)

"""Score one video (or its tracks) against the motion of another, from files."""

from __future__ import annotations

from pathlib import Path

from .metrics import edit_fidelity, motion_fidelity, temporal_consistency
from .tracks import Tracks, sample_query_points

TRACK_FILES = (".safetensors", ".npz", ".pth")


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
) -> dict:
    """All scores that the given files allow; the others are None ("not measured").

    Videos are tracked with one tracker from the same query points; where the frame counts differ, the longer tracks are
    resampled in time.
    """
    from .video import read_video

    frames = None if generated.suffix in TRACK_FILES else read_video(generated).frames
    if source.suffix in TRACK_FILES:
        wanted = Tracks.load(source)
    else:
        wanted = _track_source(source, mask, tracker, device)
    if frames is None:
        got = Tracks.load(generated)
    else:
        from .trackers import track

        got = track(frames, wanted.points[:, 0], tracker=tracker, device=device)
    shorter = min(wanted.frames, got.frames)
    wanted, got = wanted.resample(shorter), got.resample(shorter)
    matching = "index" if len(wanted) == len(got) else "best"
    pixels = None if frames is None else frames.float() / 255
    return {
        "motion_fidelity": float(motion_fidelity(wanted, got, matching=matching)),
        "motion_fidelity_reference_code": float(motion_fidelity(wanted, got, variant="reference_code")),
        "matching": matching,
        "tracker": {"source": wanted.tracker, "generated": got.tracker},
        "edit_fidelity": edit_fidelity(pixels, prompt, clip=clip) if clip and prompt and pixels is not None else None,
        "temporal_consistency": temporal_consistency(pixels, dino=dino) if dino and pixels is not None else None,
    }


def _track_source(video: Path, mask: Path | None, tracker: str, device: str) -> Tracks:
    from .foreground import foreground_mask
    from .trackers import track
    from .video import read_mask, read_video

    frames = read_video(video).frames
    foreground = foreground_mask(frames) if mask is None else read_mask(mask, *frames.shape[1:3])
    return track(frames, sample_query_points(foreground, 100), tracker=tracker, device=device)

"""Score one video (or its tracks) against the motion of another, from files."""

from __future__ import annotations

from pathlib import Path

from .measure import followed
from .metrics import edit_fidelity, motion_fidelity, temporal_consistency
from .tracking.subject import track_subject
from .tracking.tracks import Tracks

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
    from .media.video import read_video

    frames = None if generated.suffix in TRACK_FILES else read_video(generated).frames
    if source.suffix in TRACK_FILES:
        wanted = Tracks.load(source)
    else:
        wanted = track_subject(read_video(source).frames, mask, tracker=tracker, device=device)
    if frames is None:
        got = Tracks.load(generated)
    else:
        from .tracking.trackers import track_again

        got = track_again(frames, wanted, tracker=tracker, device=device)
    shorter = min(wanted.frames, got.frames)
    wanted, got = wanted.resample(shorter), got.resample(shorter)
    matching = "index" if len(wanted) == len(got) else "best"
    pixels = None if frames is None else frames.float() / 255
    found = followed(wanted, got, matching)
    return {
        "motion_fidelity": found.motion_fidelity,
        "coverage": found.coverage,
        "not_measured": found.reasons,
        "motion_fidelity_reference_code": float(motion_fidelity(wanted, got, variant="reference_code")),
        "matching": matching,
        "tracker": {"source": wanted.tracker, "generated": got.tracker},
        "edit_fidelity": edit_fidelity(pixels, prompt, clip=clip) if clip and prompt and pixels is not None else None,
        "temporal_consistency": temporal_consistency(pixels, dino=dino) if dino and pixels is not None else None,
    }

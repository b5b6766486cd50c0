"""How good tracks are against reference tracks: the TAP-Vid metrics.   (Doersch et al., arXiv 2211.03726)"""

from dataclasses import dataclass

import torch

from ..tracking.tracks import Tracks

PICTURE_PX = 256  # errors are measured in a picture of 256x256, whatever the video's shape
THRESHOLDS_PX = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class TapVidScore:
    """Each in [0, 1], higher is better.

    delta_avg: share of reference-visible points nearer than 1, 2, 4, 8, 16 px, averaged over these thresholds.
    occlusion_accuracy: share of (point, frame) pairs whose visibility is right.
    average_jaccard: true positives / (reference-visible + false positives), averaged over the thresholds; a true
        positive is visible in both and near, a false positive is predicted visible but hidden in the reference or far.
    """

    delta_avg: float
    average_jaccard: float
    occlusion_accuracy: float


def tapvid_score(predicted: Tracks, reference: Tracks, query_frame: int = 0, first: bool = True) -> TapVidScore:
    """Score tracks of one video.

    Args:
        predicted, reference: the same points over the same frames.
        query_frame: given to the tracker, never scored.
        first: score only the frames after the query frame (TAP-Vid "queried first"); else all other frames ("strided").
    Raises: ValueError if the tracks do not match, no frame is left to score, or the reference is never visible there.
    """
    if predicted.points.shape != reference.points.shape:
        raise ValueError(
            f"cannot compare {len(predicted)} tracks of {predicted.frames} frames "
            f"with {len(reference)} of {reference.frames}"
        )
    frames = [t for t in range(reference.frames) if (t > query_frame if first else t != query_frame)]
    if not frames:
        raise ValueError(f"no frame is left to score: the query frame {query_frame} is the last of {reference.frames}")
    truth, guess = reference.visible[:, frames], predicted.visible[:, frames].to(reference.visible.device)
    if not truth.any():
        raise ValueError("no reference point is visible after the query frame: nothing to score")
    offset = predicted.points[:, frames].to(reference.points.device) - reference.points[:, frames]
    distance = (offset.double() * PICTURE_PX).norm(dim=-1)
    near = torch.stack([distance < threshold for threshold in THRESHOLDS_PX])  # (5, N, T)
    hits = (near & truth & guess).flatten(1).sum(dim=1)
    false_alarms = (guess & ~(truth & near)).flatten(1).sum(dim=1)
    return TapVidScore(
        delta_avg=float(near[:, truth].double().mean()),
        average_jaccard=float((hits / (truth.sum() + false_alarms)).mean()),
        occlusion_accuracy=float((truth == guess).double().mean()),
    )

"""Measure how well a generated video follows the motion of its source."""

from __future__ import annotations

import logging

import torch
from comfy_api.latest import io, ui

from ..det_core.metrics.motion import VARIANTS, MotionScore, matching_of, motion_fidelity
from ..det_core.tracking.tracks import Tracks
from ._comfy.display.notice import say
from ._comfy.display.plot import motion_plot
from ._comfy.display.preview import image_of
from ._comfy.sockets.checked import tracks_of, video_frames
from ._comfy.sockets.tracking import track_video, track_video_again

logger = logging.getLogger(__name__)

COMPARED = {
    "index": "the same points of both",
    "best": "the points are not the same, so each with the track that fits it best, which scores higher",
}


class DeTEvaluateMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTEvaluateMotion",
            display_name="Evaluate Motion (DeT)",
            category="DeT",
            description=(
                "Compare the motion of a generated video with that of its source, by point tracks. 1 is the same "
                "motion; a video that does not move, moves otherwise or falls apart is far below. Compare scores only "
                "between videos tracked the same way."
            ),
            search_aliases=["motion fidelity", "motion score", "compare tracks"],
            inputs=[
                io.MultiType.Input(
                    "source", types=[io.Tracks, io.Image], tooltip="TRACKS of the source, or its frames."
                ),
                io.MultiType.Input(
                    "generated",
                    types=[io.Tracks, io.Image],
                    tooltip=(
                        "TRACKS of the generated video, or its frames: they are then tracked from the source's "
                        "points with the source's tracker."
                    ),
                ),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default=VARIANTS[0],
                    tooltip=(
                        "strict: the paper's motion fidelity (Frechet distance and direction) over all that the source "
                        "shows; where the generated video loses a point it agrees with nothing. hybrid: the paper's "
                        "own, which leaves out what is lost. reference_code: what the paper's released evaluation "
                        "computes; it can hardly tell a still video from a moving one and is here for comparison with "
                        "its tables."
                    ),
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A picture to draw the plot on, for instance the generated video; its first frame is used.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="score",
                    tooltip="Motion fidelity, 1 at best; nan where nothing could be compared, and the report says why.",
                ),
                io.Image.Output(
                    display_name="plot",
                    tooltip="Source tracks (blue) and generated tracks (coloured by score) over the frame.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="The score, its two halves, its coverage, the number of tracks and how they were matched.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, source, generated, variant, background=None) -> io.NodeOutput:
        size = _size(source) or _size(generated) or _size(background) or (512, 512)
        with torch.inference_mode(False):
            wanted = _tracks(source, None, size)
            found = _tracks(generated, wanted, size)
            lengths = wanted.frames, found.frames
            wanted, found = (_first_frames(tracks, min(lengths)) for tracks in (wanted, found))
            matching = matching_of(wanted, found)
            score, reason = _score(wanted, found, variant, matching)
        picture = background if background is not None else generated if isinstance(generated, torch.Tensor) else source
        frame = picture[0, ..., :3].float().cpu() if isinstance(picture, torch.Tensor) else None
        plot = image_of(motion_plot(wanted, found, score, frame, size))
        report = _report(variant, score, reason, found, matching, lengths)
        if matching == "index":
            report += _apart(source, wanted, found, variant)
        say(report)
        value = float("nan") if score is None else score.score
        return io.NodeOutput(value, plot, report, ui={**ui.PreviewImage(plot, cls=cls).as_dict(), "text": [report]})


def _report(
    variant: str, score: MotionScore | None, reason: str, found: Tracks, matching: str, lengths: tuple[int, int]
) -> str:
    if score is None:
        measured = f"not measured\n{reason}"
    else:
        coverage = "" if score.coverage is None else f", coverage {score.coverage:.2f}"
        measured = f"{score.score:.3f}\nshape {score.shape:.3f}, direction {score.direction:.3f}{coverage}"
    lines = [
        f"motion fidelity ({variant}): {measured}",
        f"{len(found)} tracks over {found.frames} frames, tracker {found.tracker or 'unknown'}",
        *([] if variant == "reference_code" else [f"compared: {COMPARED[matching]}"]),
    ]
    if score is not None and score.doubt:
        lines.append(f"not to be trusted: {score.doubt}")
    if lengths[0] != lengths[1]:
        lines.append(
            f"the source has {lengths[0]} frames and the generated video {lengths[1]}: the first {min(lengths)} of "
            "both were compared"
        )
    return "\n".join(lines)


def _apart(source, wanted: Tracks, found: Tracks, variant: str) -> str:
    """The scores of subject and camera, a line each, if the source's TRACKS say which points are whose."""
    still = source.get("still") if isinstance(source, dict) else None
    if still is None or len(still) != len(wanted):
        return ""
    from ..det_core.metrics.apart import scored_apart  # needs OpenCV

    with torch.inference_mode(False):
        scores = scored_apart(wanted, found, still.clone(), variant)
    told = {name: score if isinstance(score, str) else f"{score.score:.3f}" for name, score in scores.items()}
    return "".join(f"\n{name}: {text}" for name, text in told.items())


def _first_frames(tracks: Tracks, count: int) -> Tracks:
    return tracks.at(range(count))


def _score(wanted: Tracks, found: Tracks, variant: str, matching: str) -> tuple[MotionScore | None, str]:
    """The score, or None and the reason: a graph must not fail because its video shows nothing that can be compared."""
    try:
        score = motion_fidelity(wanted, found, variant=variant, matching=matching)
    except ValueError as error:
        logger.warning("motion fidelity is not measured: %s", error)
        return None, str(error)
    if not score.compared:
        return None, "no track is seen in both videos at the same time"
    return (None, score.doubt) if variant == "strict" and score.doubt else (score, "")


def _size(value) -> tuple[int, int] | None:
    """(width, height) in pixels, where the value knows it."""
    if isinstance(value, torch.Tensor):
        return value.shape[2], value.shape[1]
    if isinstance(value, dict) and value.get("width"):
        return value["width"], value["height"]
    return None


def _tracks(value, source: Tracks | None, size: tuple[int, int]) -> Tracks:
    """Tracks of either kind of input; a generated video is tracked from the source's points."""
    if not isinstance(value, torch.Tensor):
        return tracks_of(value, *(_size(value) or size))
    frames = video_frames(value, "the generated video" if source else "the source")
    if source is not None:
        return track_video_again(frames, source)
    return track_video(frames, None, 100, "auto", torch.Generator().manual_seed(0))

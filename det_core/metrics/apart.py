"""The motion of a subject and that of its camera, scored apart."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..tracking.moves import against_camera
from ..tracking.tracks import Tracks
from .motion import MotionScore, motion_fidelity

Part = Callable[[Tracks], Tracks]


def scored_apart(
    source: Tracks, generated: Tracks, still: torch.Tensor, variant: str = "strict"
) -> dict[str, MotionScore | str]:
    """{"camera", "subject", "subject against its camera": its score, or why there is none}.

    Args: tracks of the same points over the same frames; still (N,) bool, which of them lie on the source's background.
        Without points of a subject there is the camera alone. variant: of `motion_fidelity`.
    """
    parts: dict[str, Part] = {"camera": lambda tracks: tracks.only(still)}
    if not still.all():
        parts["subject"] = lambda tracks: tracks.only(~still)
        parts["subject against its camera"] = lambda tracks: against_camera(tracks, still)
    return {name: _scored(part, source, generated, variant) for name, part in parts.items()}


def _scored(part: Part, source: Tracks, generated: Tracks, variant: str) -> MotionScore | str:
    try:
        return motion_fidelity(part(source), part(generated), variant=variant)
    except ValueError as error:
        return str(error)

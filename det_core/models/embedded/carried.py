"""A real video carried into the embedded model's world: a disc of the subject's size follows the subject's path.

The embedded model knows shapes on coloured backgrounds and nothing else, so a real video falls to pieces in it. Its
motion need not: where the subject is and how large is all that a path on a plain ground can show.
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import torch

from ...tracking.camera import camera_motion, projected
from ...tracking.foreground import FRAMES as LOOKED_AT
from ...tracking.foreground import found_subject
from .corpus import FRAMES, SIZE, Clip, Scene, render_video

CARRIED_SCENE = Scene("red", "circle", "navy", "plain")
RADII_PX = (9.3, 13.7)  # of the corpus's sprites
MARGIN_PX = 13.0  # the corpus's sprites stay this far from the edge
SAME_SIZE = 3.0  # a region more than so many times larger or smaller than the subject was is something else
FEWEST_FRAMES = 3  # that show what moves
REACH = 0.35  # of the picture: a region farther from where the subject was last is something else


def subject_path(frames: torch.Tensor, mask: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Where the subject is in the frames `index`, (len(index), 2) in [0, 1].

    In every frame it is what moves against the camera there, looking ahead (near the end back) and, where that finds
    nothing of its size near its last place, the other way; points would be lost after some frames. Between frames that
    show it its way is straight.

    Args:
        frames: (T, H, W, 3) uint8, the whole video. mask: (H, W) bool, the subject in frame index[0].
    Raises: ValueError if the mask is empty, or the subject is found in no later frame.
    """
    if not mask.any():
        raise ValueError("the mask marks nothing in the first frame: give one that covers the subject")
    place, shares = _place(mask), [float(mask.float().mean())]
    seen = {0: place}
    for number, frame in enumerate(index.tolist()[1:], start=1):
        ahead, behind = frames[frame : frame + LOOKED_AT], frames[max(0, frame - LOOKED_AT + 1) : frame + 1].flip(0)
        for window in sorted((w for w in (ahead, behind) if len(w) >= FEWEST_FRAMES), key=len, reverse=True):
            region = found_subject(window)[0]
            share = float(region.float().mean())
            alike = 1 / SAME_SIZE < share / median(shares) < SAME_SIZE
            if alike and (_place(region) - place).norm() < REACH:
                seen[number] = place = _place(region)
                shares.append(share)
                break
    if len(seen) == 1:
        raise ValueError(
            "the subject is not seen to move against the camera after the first frame: the embedded model needs a clip "
            "whose subject moves, before a background that shows"
        )
    known = np.array(list(seen))
    places = torch.stack(list(seen.values())).numpy()
    steps = np.arange(len(index))
    return torch.from_numpy(np.stack([np.interp(steps, known, places[:, axis]) for axis in (0, 1)], axis=1)).float()


def carried_clip(frames: torch.Tensor, mask: torch.Tensor, *, camera: bool = True) -> Clip:
    """The subject's path as a clip of the embedded model's kind, 9 frames of 64x64 pixels, with its truth.

    A path that would leave the picture is moved, and where it is too long for it made smaller, as a whole.

    Args:
        frames: (T, H, W, 3) uint8, the whole real video. mask: (H, W) bool, the subject in its first frame.
        camera: keep what the camera adds to the path; without it the path is that before a camera that rests.
    Raises: ValueError if the video has fewer than 3 frames; as `subject_path`.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"a motion needs {FEWEST_FRAMES} frames or more, this video has {len(frames)}")
    index = torch.linspace(0, len(frames) - 1, FRAMES).add(0.5).floor().long()
    path = subject_path(frames, mask, index)
    if not camera:
        cameras = camera_motion(frames)[index.numpy()]
        still = [projected(at[None].numpy(), np.linalg.inv(c))[0] for at, c in zip(path, cameras, strict=True)]
        path = torch.from_numpy(np.stack(still)).float()
    path = _inside(path * SIZE)
    radius = min(max(SIZE * math.sqrt(float(mask.float().mean()) / math.pi), RADII_PX[0]), RADII_PX[1])
    still = torch.zeros(FRAMES)
    return Clip(render_video(CARRIED_SCENE, path, still + radius, still), path, CARRIED_SCENE)


def _place(region: torch.Tensor) -> torch.Tensor:
    """The middle (x, y) in [0, 1] of a region (H, W) bool."""
    rows, columns = torch.nonzero(region, as_tuple=True)
    return torch.stack([(columns + 0.5).mean() / region.shape[1], (rows + 0.5).mean() / region.shape[0]])


def _inside(path: torch.Tensor) -> torch.Tensor:
    """A path (T, 2) px as far into the picture as a sprite has to be."""
    room = SIZE - 2 * MARGIN_PX
    middle = (path.amin(0) + path.amax(0)) / 2
    path = middle + (path - middle) * (room / (path.amax(0) - path.amin(0)).max()).clamp(max=1.0)
    low, high = path.amin(0), path.amax(0)
    return path + (MARGIN_PX - low).clamp(min=0) - (high - (SIZE - MARGIN_PX)).clamp(min=0)

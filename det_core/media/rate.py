"""Frames of a clip chosen so that it plays at a model's rate, and has a length that the model takes."""

from __future__ import annotations

from dataclasses import dataclass

LONGER = ("cut", "thin")


@dataclass(frozen=True)
class Timed:
    """frames: numbers of those that are used, in order. fps: at which they play at the clip's speed, 0 if unknown.
    said: what was done to the clip, in words, "" for nothing."""

    frames: tuple[int, ...]
    fps: float
    said: str


def timed(count: int, source_fps: float, fps: float) -> Timed:
    """The frames of a clip of `count` frames that play at `fps`, from the first one on, each the nearest in time.

    None is made up: a clip of fewer frames a second is taken as it is, and moves faster at the model's rate. A rate of
    0 is not known, and then nothing is changed.
    """
    known = source_fps > 0 and fps > 0
    if not known or source_fps <= 1.02 * fps:
        slow = known and source_fps < 0.98 * fps
        said = (
            f"{source_fps:g} frames a second, at the model's {fps:g} {fps / source_fps:.2g} times as fast"
            if slow
            else ""
        )
        return Timed(tuple(range(count)), max(0.0, source_fps), said)
    ratio = source_fps / fps
    chosen = [round(i * ratio) for i in range(int((count - 1) / ratio) + 1)]
    return Timed(tuple(chosen), fps, f"{source_fps:g} frames a second became {fps:g}")


def shortened(clip: Timed, length: int, longer: str) -> Timed:
    """`length` frames of a clip that has as many or more.

    longer: "cut" takes the first ones; "thin" takes every second, third, ... as far as the clip reaches, which then
    moves so many times as fast.
    """
    step = max(1, (len(clip.frames) - 1) // max(1, length - 1)) if longer == "thin" else 1
    frames = clip.frames[: step * (length - 1) + 1 : step]
    left = len(clip.frames) - step * (length - 1) - 1
    words = [clip.said] if clip.said else []
    words += [f"one frame in {step}"] if step > 1 else []
    words += [f"the last {left} cut off"] if left else []
    return Timed(frames, clip.fps / step, ", ".join(words))

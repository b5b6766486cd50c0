"""What is seen while a node works: progress with time left, the live picture, videos."""

from __future__ import annotations

import os
import time
import uuid

import comfy.model_management as mm
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ....det_core.media.video import write_video
from .live import Row, live_picture
from .notice import send_text, this_node
from .theme import look

UNKNOWN_FPS = 8.0  # a video plays at that where its rate is 0, as Fit Video gives one that it was not told
SECONDS = 0.7  # between two previews: drawing and sending one costs some milliseconds


def image_of(picture: Image.Image) -> torch.Tensor:
    """A picture as IMAGE, (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float()[None] / 255


def preview_video(frames: torch.Tensor, fps: float = 0.0) -> ui.PreviewVideo:
    """Frames (T, H, W, 3) as a video on the node. fps: 0 where it is not known."""
    name = f"det_tracks_{uuid.uuid4().hex[:12]}.mp4"
    write_video(os.path.join(folder_paths.get_temp_directory(), name), frames, fps or UNKNOWN_FPS)
    return ui.PreviewVideo([ui.SavedResult(name, "", io.FolderType.temp)])


def saved_video(frames: torch.Tensor, fps: float, prefix: str) -> ui.PreviewVideo:
    """Frames (T, H, W, 3) as a new file in the output folder, shown on the node. fps: 0 where it is not known."""
    folder, name, number, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    file = f"{name}_{number:05}_.mp4"
    write_video(os.path.join(folder, file), frames, fps or UNKNOWN_FPS)
    return ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)])


class DrawsBar:
    """The progress bar of a node that evaluates the model some times; calling it raises ComfyUI's interrupt after
    Cancel."""

    def __init__(self, total: int):
        self.bar = comfy.utils.ProgressBar(total)

    def __call__(self, done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(done, total)


class TrainingView:
    """Progress bar, text and preview of a training node; updating it raises ComfyUI's interrupt after Cancel."""

    def __init__(self, total: int):
        """total: steps of all stages."""
        self.total, self.node_id = total, this_node()
        self.bar = comfy.utils.ProgressBar(total, node_id=self.node_id)
        self.rows: list[Row] = []  # the source and samples; who samples sets them
        self.begun, self.until, self.started = 0, total, time.monotonic()
        self._shown = 0.0

    def say(self, text: str) -> None:
        """A line of text on the node."""
        send_text(text, self.node_id)

    def begin(self, rows: list[Row], done: int, until: int) -> None:
        """A stage begins now, or goes on, after `done` steps of all, and ends at step `until`: the time left is
        reckoned from here on and for this stage, since a step of the next takes another time."""
        self.rows, self.begun, self.until, self.started = rows, done, until, time.monotonic()
        self._send(done, {}, ["begins", f"step {done} of {self.total}"])

    def update(self, step: int, losses: dict[str, list[float]]) -> None:
        mm.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if now - self._shown < SECONDS and step < self.total:
            return
        self._shown = now
        recent = losses["total"][-20:]
        loss, left = f"loss {sum(recent) / len(recent):.4f}", f"{duration(self._left(step))} left"
        self.say(f"step {step} of {self.total}, {loss}, {left}{'' if self.until == self.total else ' of this stage'}")
        self._send(step, losses, [loss, f"step {step} of {self.total}", left])

    def _left(self, step: int) -> float:
        """Seconds."""
        return (time.monotonic() - self.started) / max(1, step - self.begun) * (self.until - step)

    def _send(self, step: int, losses: dict[str, list[float]], words: list[str]) -> None:
        picture = live_picture(losses, words, self.rows, look())
        self.bar.update_absolute(step, self.total, ("JPEG", picture, max(picture.size)))

    def result(self, losses: dict[str, list[float]]) -> torch.Tensor:
        """The picture of a finished training as IMAGE."""
        return image_of(live_picture(losses, [f"{self.total} steps"], self.rows, look()))


def duration(seconds: float) -> str:
    """75 -> "1:15", 4000 -> "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

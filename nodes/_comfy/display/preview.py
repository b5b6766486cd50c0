"""What is seen while a node works: progress with time left, the live loss curve, a small sample so far."""

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
from ....det_core.tracking.draw import loss_curve
from .notice import send_text, this_node

WIDTH, HEIGHT = 640, 320  # pixels of the loss curve
SECONDS = 0.7  # between two previews: drawing and sending one costs some milliseconds


def image_of(picture: Image.Image) -> torch.Tensor:
    """A picture as IMAGE, (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float()[None] / 255


def loss_picture(losses: dict[str, list[float]]) -> torch.Tensor:
    """The loss curves of a finished training as IMAGE (1, 480, 960, 3)."""
    return image_of(loss_curve(losses, 960, 480))


def preview_video(frames: torch.Tensor, fps: float = 8.0) -> ui.PreviewVideo:
    """Frames (T, H, W, 3) as a video on the node."""
    name = f"det_tracks_{uuid.uuid4().hex[:12]}.mp4"
    write_video(os.path.join(folder_paths.get_temp_directory(), name), frames, fps)
    return ui.PreviewVideo([ui.SavedResult(name, "", io.FolderType.temp)])


def saved_video(frames: torch.Tensor, fps: float, prefix: str) -> ui.PreviewVideo:
    """Frames (T, H, W, 3) as a new file in the output folder, shown on the node."""
    folder, name, number, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    file = f"{name}_{number:05}_.mp4"
    write_video(os.path.join(folder, file), frames, fps)
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

    def __init__(self, total: int, done: int = 0):
        """done: steps of `total` that earlier runs have taken."""
        self.total, self.node_id, self.done = total, this_node(), done
        self.bar = comfy.utils.ProgressBar(total, node_id=self.node_id)
        self.sheet: Image.Image | None = None  # the newest sample; who samples sets it
        self.started = time.monotonic()
        self._shown = 0.0

    def say(self, text: str) -> None:
        """A line of text on the node."""
        send_text(text, self.node_id)

    def update(self, step: int, losses: dict[str, list[float]]) -> None:
        mm.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if now - self._shown < SECONDS and step < self.total:
            return
        self._shown = now
        self.say(self.status(step, losses))
        picture = self.picture(losses)
        self.bar.update_absolute(step, self.total, ("JPEG", picture, max(picture.size)))

    def status(self, step: int, losses: dict[str, list[float]]) -> str:
        recent = losses["total"][-20:]
        left = (time.monotonic() - self.started) / max(1, step - self.done) * (self.total - step)
        return f"step {step} of {self.total}, loss {sum(recent) / len(recent):.4f}, {duration(left)} left"

    def picture(self, losses: dict[str, list[float]]) -> Image.Image:
        """The loss curve, with the latest sample under it."""
        curve = loss_curve(losses, WIDTH, HEIGHT).convert("RGB")
        if self.sheet is None:
            return curve
        sheet = self.sheet.resize((WIDTH, round(self.sheet.height * WIDTH / self.sheet.width)))
        both = Image.new("RGB", (WIDTH, HEIGHT + sheet.height), "white")
        both.paste(curve, (0, 0))
        both.paste(sheet, (0, HEIGHT))
        return both


def duration(seconds: float) -> str:
    """75 -> "1:15", 4000 -> "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

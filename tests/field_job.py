"""A clip as users have them, and the command line at work on it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from det_core.cli.main import main
from det_core.media.video import write_video
from det_core.tracking.tracks import Tracks

SHORT = ["--steps", 1, "--sample-steps", 1]


def disc_clip(frames: int = 12, jumps: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A disc of a texture of its own over noise, from the upper left to the lower right, so often; its first mask."""
    g = torch.Generator().manual_seed(0)
    background = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 40, generator=g), (96, 160))[0].permute(1, 2, 0)
    paint = torch.rand(96, 160, 3, generator=g)
    y, x = torch.meshgrid(torch.arange(96), torch.arange(160), indexing="ij")
    clip, first = [], None
    for _ in range(jumps):
        for t in range(frames):
            inside = (x - 30 - 3 * t) ** 2 + (y - 25 - 1.5 * t) ** 2 < 14**2
            first = inside if first is None else first
            shifted = paint.roll((round(1.5 * t), 3 * t), (0, 1)) * torch.tensor([1.0, 0.6, 0.2])
            clip.append(torch.where(inside[..., None], shifted, background))
    return torch.stack(clip), first


def write_field(folder: Path) -> Path:
    """Write plain.mp4 (24 frames a second), its mask plain.png, two of its points plain.npz, and loop.mp4, three times
    the same in 5 s."""
    for name, jumps, fps in (("plain", 1, 24), ("loop", 3, 36 / 5)):
        frames, mask = disc_clip(jumps=jumps)
        write_video(folder / f"{name}.mp4", frames, fps)
    path = torch.stack([(30 + 3 * torch.arange(12)) / 160, (25 + 1.5 * torch.arange(12)) / 96], dim=-1)
    Tracks(torch.stack([path, path + 0.02]), torch.ones(2, 12)).save(folder / "plain.npz")
    big = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)  # small videos are written larger
    Image.fromarray(255 * big.numpy().astype(np.uint8)).save(folder / "plain.png")
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def job(field: Path, out: Path, *more: object, command: str = "transfer", video: str = "plain.mp4") -> list[object]:
    return [command, "--video", field / video, "--mask", field / "plain.png", *SHORT, "--out", out, *more]


def tracked_job(field: Path, out: Path, *more: object) -> list[object]:
    """`job` with tracks that are there: for what is not about tracking, which takes most of the time."""
    return job(field, out, "--tracks", field / "plain.npz", *more)


def refused(capsys, *words: object) -> str:
    """The one line of a command that does nothing else."""
    assert run(*words) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]

"""Point tracks: where the points of a video are in every frame, and whether they can be seen there.

Convention (all of det_core): x to the right, y down, divided by the picture's width and height, so [0, 1] spans the
    whole picture and the centre of the first pixel is (0.5 / width, 0.5 / height). Positions outside [0, 1] are
    allowed: the point has left the picture.
"""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .files import load_tracks, save_tracks

logger = logging.getLogger(__name__)

REFERENCE_DIAGONAL_PX = math.hypot(720, 480)  # lengths "in px" of the method are px of a 720x480 picture
CANDIDATES = 4096  # mask pixels among which local density is counted
EROSION_PX = 2  # keeps query points off the silhouette, where a tracker loses them first


@dataclass(frozen=True)
class Tracks:
    """N points over T frames.

    Args:
        points:  (N, T, 2) (x, y) as the module's convention says; kept as float32.
        visible: (N, T) bool (or numbers: above 0.5 is visible).
        tracker: name of the tracker that made them, "" where unknown. Scores of different trackers do not compare.
        query_frames: (N,) the frame in which each point was chosen, None where unknown.
    Raises: ValueError if the shapes do not belong together, or a position is NaN or infinite.
    """

    points: torch.Tensor
    visible: torch.Tensor
    tracker: str = ""
    query_frames: torch.Tensor | None = None

    def __post_init__(self) -> None:
        points = torch.as_tensor(self.points).detach().to(torch.float32)
        visible = torch.as_tensor(self.visible).detach().to(points.device)
        if points.ndim != 3 or points.shape[2] != 2:
            raise ValueError(f"tracks need points of shape (points, frames, 2), got {tuple(points.shape)}")
        if visible.shape != points.shape[:2]:
            raise ValueError(
                f"tracks need one visibility per point and frame: points are {tuple(points.shape[:2])}, "
                f"visibility is {tuple(visible.shape)}"
            )
        if 0 in points.shape:
            raise ValueError(f"these tracks are empty: {points.shape[0]} points over {points.shape[1]} frames")
        if not points.isfinite().all():
            raise ValueError("a track position is NaN or infinite: the tracks are damaged, make them again")
        if self.query_frames is not None:
            asked = torch.as_tensor(self.query_frames).detach().cpu()
            if asked.shape != points.shape[:1] or asked.is_floating_point() or asked.is_complex():
                raise ValueError(f"tracks of {len(points)} points need one query frame each, a whole number")
            if ((asked < 0) | (asked >= points.shape[1])).any():
                raise ValueError(f"a query frame of these tracks is none of their {points.shape[1]} frames")
            object.__setattr__(self, "query_frames", asked.long())
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "visible", visible if visible.dtype == torch.bool else visible > 0.5)

    def __len__(self) -> int:
        return self.points.shape[0]

    @property
    def frames(self) -> int:
        return self.points.shape[1]

    def to(self, device: torch.device | str) -> "Tracks":
        """The same tracks on another device."""
        return replace(self, points=self.points.to(device), visible=self.visible.to(device))

    def queries(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where and when each point was chosen: (N, 2) positions within the picture, (N,) frames; the first frame where
        it is unknown."""
        asked = torch.zeros(len(self), dtype=torch.long) if self.query_frames is None else self.query_frames
        return self.points[torch.arange(len(self)), asked].clamp(0, 1), asked

    def only(self, points: torch.Tensor) -> "Tracks":
        """The tracks of some points, (N,) bool."""
        asked = None if self.query_frames is None else self.query_frames[points]
        return replace(self, points=self.points[points], visible=self.visible[points], query_frames=asked)

    @classmethod
    def joined(cls, parts: "Sequence[Tracks]") -> "Tracks":
        """The points of all parts, which are over the same frames and by the same tracker."""
        asked = torch.cat([part.queries()[1] for part in parts])
        return cls(torch.cat([p.points for p in parts]), torch.cat([p.visible for p in parts]), parts[0].tracker, asked)

    def to_grid(self, latent_frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tracks in the cells and frames of a latent.

        Latent frame i of L is read at video frame i * (F - 1) / (L - 1) of F (rounded where that is not whole), which
        is frame 4i for a causal video VAE with 4x compression and 4k+1 frames, and frame i where L == F. A training has
        taken the frames of its base before (`training/views.py`), which for frames of uneven length are others.

        Args: latent_frames, height, width: size of the latent in frames and cells.
        Returns: points (N, latent_frames, 2) in cells, the centre of the first cell is (0.5, 0.5); visible
            (N, latent_frames) bool, False wherever the point is outside the latent.
        Raises: ValueError if there are more latent frames than frames.
        """
        if not 1 <= latent_frames <= self.frames:
            raise ValueError(
                f"these tracks have {self.frames} frames, too few for {latent_frames} latent frames: "
                "track the whole video that was encoded"
            )
        picked = self.resample(latent_frames)
        size = picked.points.new_tensor([width, height])
        points = picked.points * size
        return points, picked.visible & ((points >= 0) & (points < size)).all(dim=-1)

    def at(self, frames: Sequence[int]) -> "Tracks":
        """The tracks at these frames alone; a query frame that is none of them becomes the nearest one."""
        asked = self.query_frames
        if asked is not None:
            asked = (torch.as_tensor(list(frames))[None] - asked[:, None]).abs().argmin(1)
        return Tracks(self.points[:, frames], self.visible[:, frames], self.tracker, asked)

    def resample(self, frames: int) -> "Tracks":
        """The same motion in another number of frames: the first and last frame stay, the nearest in time are taken."""
        if frames < 1:
            raise ValueError(f"cannot resample tracks to {frames} frames: ask for 1 or more")
        if frames == self.frames:
            return self
        span = (self.frames - 1) / max(frames - 1, 1)
        index = torch.arange(frames, dtype=torch.float64).mul(span).add(0.5).floor().long()
        return self.at(index.tolist())

    @classmethod
    def from_comfy(cls, tracks: Mapping[str, Any], width: int, height: int) -> "Tracks":
        """From ComfyUI's TRACKS: `track_path` (T, N, 2) pixels and `track_visibility` (T, N), (T, 1), (T,) or none.

        Args: width, height: size in px of the picture the pixel positions belong to.
        Raises: ValueError if keys or shapes are not those of TRACKS.
        """
        if not isinstance(tracks, Mapping) or "track_path" not in tracks:
            raise ValueError("this is not a TRACKS value: it has no track_path; connect a node that outputs TRACKS")
        path = torch.as_tensor(tracks["track_path"]).float()
        if path.ndim != 3 or path.shape[-1] != 2:
            raise ValueError(f"track_path must be (frames, points, 2), got {tuple(path.shape)}")
        visibility = tracks.get("track_visibility")
        visible = torch.ones(path.shape[:2]) if visibility is None else torch.as_tensor(visibility)
        if visible.ndim == 1:
            visible = visible[:, None]
        if visible.ndim != 2 or visible.shape[0] != path.shape[0] or visible.shape[1] not in (1, path.shape[1]):
            raise ValueError(
                f"track_visibility {tuple(visible.shape)} does not belong to track_path {tuple(path.shape)}"
            )
        points = path / path.new_tensor([width, height])
        tracker, asked = str(tracks.get("tracker", "")), tracks.get("query_frames")
        return cls(points.transpose(0, 1), visible.expand(path.shape[:2]).T, tracker, asked)

    def to_comfy(self, width: int, height: int) -> dict[str, Any]:
        """ComfyUI's TRACKS for a picture of `width` x `height` px; tracker and query frames travel in extra keys."""
        path = self.points * self.points.new_tensor([width, height])
        return {
            **({} if self.query_frames is None else {"query_frames": self.query_frames}),
            "track_path": path.transpose(0, 1).contiguous(),
            "track_visibility": self.visible.T.contiguous(),
            "tracker": self.tracker,
        }

    def save(self, path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
        """Write .safetensors or .npz (keys `points`, `visible`); see `files.save_tracks`."""
        save_tracks(self, path, metadata or {})

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tracks":
        """Read .safetensors, .npz (ours or the MTBench layout) or .pth; see `files.load_tracks`."""
        return load_tracks(path, cls)


def binary_mask(mask: torch.Tensor) -> torch.Tensor:
    """A picture of the foreground as bool: bool as it is, integers above 127, floats in [0, 1] above 0.5."""
    if mask.dtype == torch.bool:
        return mask
    return mask > 0.5 if mask.is_floating_point() else mask > 127


def sample_query_points(
    mask: torch.Tensor, count: int, radius: float = 5, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Choose points of the foreground to track; isolated ones are likelier.        (DeT, arXiv 2503.17350)

    The mask is binarised and eroded by 2 px (unless nothing would be left); among at most 4096 of its pixels the
    weight of one is 1 / (number of them within `radius`, itself included).
    Note: the released code takes candidates with replacement, does not erode, and counts a fixed 5 px whatever the
    picture's size; that gives duplicates, and silhouette points, which belong to the background one frame later.

    Args:
        mask:   (H, W) bool, integer (above 127 is foreground) or float in [0, 1] (above 0.5).
        count:  number of points; a smaller foreground gives all of its pixels.
        radius: in px of a 720x480 picture, scaled with the mask's diagonal.
    Returns: (min(count, pixels), 2) float32 (x, y) in [0, 1], centres of pixels, no two alike.
    Raises: ValueError if the mask is empty or not a picture.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask is one picture (height, width), got {tuple(mask.shape)}")
    if count < 1:
        raise ValueError(f"cannot sample {count} query points: ask for 1 or more")
    inside = binary_mask(mask).cpu()
    if not inside.any():
        raise ValueError("the mask is empty: no pixel is above half of full white; paint the moving subject white")
    if inside.all():
        logger.warning("the mask covers the whole picture: query points are drawn from the background too")
    height, width = inside.shape
    pixels = _eroded(inside).nonzero().float()  # (P, 2) as (y, x)
    if len(pixels) > CANDIDATES:
        pixels = pixels[torch.randperm(len(pixels), generator=generator)[:CANDIDATES]]
    if len(pixels) > count:
        reach = radius * math.hypot(width, height) / REFERENCE_DIAGONAL_PX
        distance = torch.cdist(pixels, pixels, compute_mode="donot_use_mm_for_euclid_dist")
        weight = 1 / (distance <= reach).sum(dim=1)
        pixels = pixels[torch.multinomial(weight, count, replacement=False, generator=generator)]
    return (pixels.flip(-1) + 0.5) / torch.tensor([width, height])


def _eroded(inside: torch.Tensor) -> torch.Tensor:
    """(H, W) bool without its outer 2 px (the picture's own border does not count as outside), or as it was."""
    from kornia.morphology import erosion

    side = 2 * EROSION_PX + 1
    smaller = erosion(inside[None, None].float(), torch.ones(side, side))[0, 0] > 0.5
    return smaller if smaller.any() else inside

"""The moving subject of a video, found without a mask: what moves against the camera.

Points on a grid are followed for a few frames by optical flow; a homography explains the camera. What it does not
explain, and what does not look like the background seen in other frames, is the subject; colour (GrabCut) draws its
outline. This needs a background that covers most of the picture and a subject that moves against it. It knows nothing
of objects: a shadow that moves with the subject belongs to it. A mask is better.
"""

import logging
import math
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..media.video import as_uint8
from .camera import EXPLAINED_PX, GRID_PX, TRUST_PX, grid_points, homography, projected
from .trackers.chain import working_size
from .trackers.dis import FlowEngine, follow, grey_pictures
from .tracks import REFERENCE_DIAGONAL_PX

logger = logging.getLogger(__name__)

FRAMES = 9  # looked at
HORIZONS = (1, 2, 4, 8)  # frames to look ahead: the first at which something has clearly moved; px as in camera.py
MOVED_PX = 2.0  # ... which is so when the 99th percentile of the residual reaches this
SMALLEST_PART = 0.15  # of the largest one: smaller moving parts are dropped
SMALLEST_SUBJECT = 0.015  # of the picture; less is doubted
SURE_SHARE = 0.5  # of the moving cells, those that move most may be certain to be subject
UNLIKE_LEVELS = 24  # of 255: a pixel that differs more from the background is not background
STRAY_SHARE = 0.005  # of the picture; with less beside the subject that differs, the background is well known
FEWEST_UNLIKE = 0.02  # of the moving pixels; with fewer the background was not seen behind the subject


def foreground_mask(frames: torch.Tensor) -> torch.Tensor:
    """Mask of the subject in the first frame.

    Warns where the result is not to be trusted: nothing moves against the camera, the camera explains less than half of
    the picture, or next to nothing is found. If nothing at all stands out, the whole picture is returned.

    Args: frames (T, H, W, 3) RGB, uint8 or float in [0, 1]; the first 9 are looked at.
    Returns: (H, W) bool.
    Raises: ValueError if there is one frame only: give a mask then.
    """
    mask, doubt = found_subject(frames)
    if doubt:
        logger.warning("%s; better give a mask", doubt)
    return mask


def found_subject(frames: torch.Tensor) -> tuple[torch.Tensor, str]:
    """`foreground_mask`, and what makes it a guess instead of a warning, "" where nothing does."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise ValueError(
            "finding the subject needs a video (frames, height, width, 3) of 2 frames or more, "
            f"got {tuple(frames.shape)}: give a mask"
        )
    frames = as_uint8(frames[:FRAMES]).cpu()
    height, width = frames.shape[1:3]
    size = working_size(height, width)
    motion = _against_camera(frames, size)
    moving = _moving_cells(motion.residual)
    if not moving.any():
        all_of_it = "nothing stands out from the camera's motion: the whole picture is the subject"
        return torch.ones(height, width, dtype=torch.bool), "; ".join(filter(None, (motion.doubt, all_of_it)))
    half = (size[1] // 2, size[0] // 2)
    pictures = [cv2.resize(np.ascontiguousarray(f.numpy()), half, interpolation=cv2.INTER_AREA) for f in frames]
    unlike = _unlike_background(pictures, motion.cameras)
    outline = _outline(pictures[0], _evidence(moving, motion.residual, unlike))
    mask = torch.from_numpy(cv2.resize(outline, (width, height), interpolation=cv2.INTER_LINEAR) > 127)
    part = (
        ""
        if (share := mask.float().mean().item()) >= SMALLEST_SUBJECT
        else (
            f"what is found to move covers only {share:.1%} of the picture: it may be a part of the subject, or a speck"
        )
    )
    return mask, "; ".join(filter(None, (motion.doubt, part)))


@dataclass(frozen=True)
class _Motion:
    """residual: (rows, columns) px, how far grid points end from where the camera would have taken them.
    cameras: a homography from the first frame to each later one, px of the working picture.
    doubt: why this is not to be trusted, or ""."""

    residual: np.ndarray
    cameras: list[np.ndarray]
    doubt: str


def _against_camera(frames: torch.Tensor, size: tuple[int, int]) -> _Motion:
    pictures, flow = grey_pictures(frames, size), FlowEngine()
    unit = math.hypot(*size) / REFERENCE_DIAGONAL_PX
    start = grid_points(size)
    now, spent, cameras, residuals = start, torch.zeros(len(start)), [], []
    for here, there in zip(pictures[:-1], pictures[1:], strict=True):
        now, error = follow(flow(here, there), flow(there, here), now)
        spent = spent + error
        camera = homography(start.numpy(), now.numpy(), (spent <= TRUST_PX * unit).numpy(), EXPLAINED_PX * unit)
        cameras.append(camera)
        residuals.append(np.linalg.norm(now.numpy() - projected(start.numpy(), camera), axis=1).astype(np.float32))
    reach = {k: float(np.percentile(residuals[k - 1], 99)) / unit for k in HORIZONS if k <= len(residuals)}
    horizon = next((k for k, px in reach.items() if px >= MOVED_PX), max(reach, key=reach.get))
    residual = residuals[horizon - 1]
    explained = float((residual <= EXPLAINED_PX * unit).mean())
    doubt = ""
    if reach[horizon] < MOVED_PX:
        doubt = (
            f"almost nothing moves against the camera in the first {len(frames)} frames ({reach[horizon]:.1f} px at "
            "most): the mask found there is a guess"
        )
    elif explained < 0.5:
        doubt = (
            f"the camera's motion explains only {explained:.0%} of the picture (a large subject, a deep scene, blur, "
            "or no texture): the mask found is a guess"
        )
    return _Motion(residual.reshape(-1, len(range(GRID_PX // 2, size[1], GRID_PX))), cameras, doubt)


def _moving_cells(residual: np.ndarray) -> np.ndarray:
    """Grid points (rows, columns) bool that the camera does not explain: Otsu's threshold, without specks."""
    top = np.percentile(residual, 99)
    if top <= 0:
        return np.zeros_like(residual, bool)
    scaled = (np.clip(residual / top, 0, 1) * 255).astype(np.uint8)
    _, binary = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return _large_parts(cv2.medianBlur(binary, 3) > 0)


def _large_parts(mask: np.ndarray, touching: np.ndarray | None = None) -> np.ndarray:
    """(h, w) bool without the connected parts that are small beside the largest, or do not overlap `touching`."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    kept = np.arange(1, count) if touching is None else np.setdiff1d(np.unique(labels[touching]), 0)
    area = stats[:, cv2.CC_STAT_AREA]
    largest = area[kept].max(initial=0)
    return np.isin(labels, kept[area[kept] >= SMALLEST_PART * largest])


def _unlike_background(pictures: list[np.ndarray], cameras: list[np.ndarray]) -> np.ndarray:
    """How much each pixel of the first picture differs from the background, (h, w) levels of 255.

    The background is the median of the later frames, each brought back by its camera: where the subject has moved on,
    most of them show what is behind it. Flow alone cannot tell: it bleeds into a background without texture.
    """
    height, width = pictures[0].shape[:2]
    halve = np.diag([0.5, 0.5, 1.0])  # the cameras speak of the working picture, twice as large
    seen = []
    for picture, camera in zip(pictures[1:], cameras, strict=True):
        back = halve @ camera @ np.linalg.inv(halve)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        warped = cv2.warpPerspective(picture, back, (width, height), flags=flags).astype(np.float32)
        covered = cv2.warpPerspective(np.full((height, width), 255, np.uint8), back, (width, height), flags=flags)
        warped[covered < 255] = np.nan
        seen.append(warped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that no other frame shows
        background = np.nanmedian(np.stack(seen), axis=0)
    difference = np.nan_to_num(np.abs(pictures[0] - background).max(axis=-1))
    return cv2.blur(difference, (3, 3))


@dataclass(frozen=True)
class _Evidence:
    """(h, w) bool each: what may be subject at all, what is likely, what is certain if its colour agrees."""

    possible: np.ndarray
    likely: np.ndarray
    certain: np.ndarray


def _evidence(moving: np.ndarray, residual: np.ndarray, unlike: np.ndarray) -> _Evidence:
    """Motion (grid cells) and unlikeness to the background (pixels) put together."""
    cell = GRID_PX // 2
    y, x = (
        np.minimum(np.arange(side) // cell, cells - 1) for side, cells in zip(unlike.shape, moving.shape, strict=True)
    )
    inside = moving[np.ix_(y, x)]
    noise = 0.0 if inside.all() else float(np.median(unlike[~inside]))
    differs = unlike > max(UNLIKE_LEVELS, 3 * noise)
    parts = _large_parts(differs, touching=inside)
    if parts.any() and (differs & ~parts).mean() < STRAY_SHARE:  # little else differs: the background is well known
        return _Evidence(grown(inside | parts, 2 * cell), parts, _shrunk(parts, cell // 2))
    likely = inside & differs
    if likely.sum() < FEWEST_UNLIKE * inside.sum():
        likely = inside
    strong = (residual >= np.quantile(residual[moving], 1 - SURE_SHARE))[np.ix_(y, x)]
    return _Evidence(grown(inside, 2 * cell), likely, _shrunk(inside, cell // 2) & strong & likely)


def _outline(picture: np.ndarray, evidence: _Evidence) -> np.ndarray:
    """The evidence fitted to the picture's colours: (h, w) uint8, 0 or 255."""
    if evidence.possible.all():  # GrabCut has no background to learn from
        return evidence.likely.astype(np.uint8) * 255
    labels = np.where(evidence.likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[~evidence.possible] = cv2.GC_BGD
    around, everywhere = evidence.possible & ~evidence.likely, ~evidence.likely
    certain = evidence.certain & _commoner_colour(picture, evidence.certain, [around, everywhere])
    labels[certain] = cv2.GC_FGD
    bgr, models = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(0)  # its clustering draws random numbers
    cv2.grabCut(bgr, labels, None, *models, 5, cv2.GC_INIT_WITH_MASK)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return (found if found.any() else evidence.likely).astype(np.uint8) * 255


def _commoner_colour(picture: np.ndarray, subject: np.ndarray, backgrounds: list[np.ndarray]) -> np.ndarray:
    """(h, w) bool: has a colour that is commoner in `subject` than in each of the backgrounds, all (h, w) bool.

    What the subject is about to cover also moves with it, and differs from what later frames show there.
    """
    colour = (picture // 32).astype(int) @ np.array([64, 8, 1])  # 8 levels a channel
    share, *others = (np.bincount(colour[part], minlength=512) / max(part.sum(), 1) for part in (subject, *backgrounds))
    return (share > np.max(others, axis=0))[colour]


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask (h, w) bool and all within `radius` px of it."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def _shrunk(mask: np.ndarray, radius: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.erode(mask.astype(np.uint8), disc) > 0

"""Tracking by CoTracker3 (Karaev et al., arXiv 2410.11831), where the user has its code and its weights.

Code and weights are Meta's, under CC-BY-NC 4.0: no commercial use. Neither is part of this project and nothing is ever
downloaded. The code is found as the installed package `cotracker` or as a checkout of facebookresearch/co-tracker
(argument or COTRACKER_PATH); the weights as a file (argument or COTRACKER_WEIGHTS) or by name in the usual folders.
"""

import importlib
import importlib.util
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

LICENCE = "CoTracker3 is licensed CC-BY-NC 4.0: not for commercial use"
WEIGHT_NAMES = ("scaled_offline.pth", "scaled_online.pth")  # best first
QUERIES_PER_PASS = 256  # bounds memory; every pass reads the whole video again
OFFLINE_WINDOW, ONLINE_WINDOW = 60, 16  # frames, as the published weights were trained


def find_code(checkout: str | os.PathLike | None = None) -> Path | None:
    """The folder that holds the package `cotracker`: the checkout given or named by COTRACKER_PATH, else where it is
    installed; None if there is none. Nothing is imported."""
    named = checkout or os.environ.get("COTRACKER_PATH")
    if named:
        return Path(named) if (Path(named) / "cotracker" / "predictor.py").is_file() else None
    spec = importlib.util.find_spec("cotracker")
    return Path(spec.origin).parent.parent if spec is not None and spec.origin else None


def find_weights(weights: str | os.PathLike | None = None, checkout: str | os.PathLike | None = None) -> Path | None:
    """The weights file: the one given or named by COTRACKER_WEIGHTS (a file, or a folder that holds it), else by its
    usual name in `checkpoints` of the checkout or the working folder, or in torch's hub cache; None if there is none.
    """
    named = weights or os.environ.get("COTRACKER_WEIGHTS")
    if named and Path(named).is_file():
        return Path(named)
    code = find_code(checkout)
    folders = (
        [Path(named)]
        if named
        else [
            *([code / "checkpoints"] if code else []),
            Path("checkpoints"),
            Path(torch.hub.get_dir()) / "checkpoints",
        ]
    )
    candidates = (folder / name for folder in folders for name in WEIGHT_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def load_predictor(weights: Path, checkout: str | os.PathLike | None = None) -> Any:
    """CoTracker3's own predictor with `weights`, which are opened weights-only; a file named `*online*` gets the online
    network. Raises: ValueError, one line, where code or weights do not fit."""
    code = find_code(checkout)
    if code is None:
        raise ValueError(missing(weights, checkout))
    online = "online" in weights.name
    predictor = _predictor_class(code)(
        checkpoint=None, offline=not online, window_len=ONLINE_WINDOW if online else OFFLINE_WINDOW
    )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        predictor.model.load_state_dict(state.get("model", state))
    except (pickle.UnpicklingError, RuntimeError, AttributeError, EOFError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{weights} holds no CoTracker3 weights ({reason}); use scaled_offline.pth") from error
    return predictor


def missing(weights: str | os.PathLike | None = None, checkout: str | os.PathLike | None = None) -> str:
    """One line that says what CoTracker3 lacks here and where to put it."""
    if find_code(checkout) is None:
        named = checkout or os.environ.get("COTRACKER_PATH")
        where = f"{named} is no checkout of facebookresearch/co-tracker" if named else "its code is not installed"
        remedy = "install the package cotracker or set COTRACKER_PATH to a checkout"
    else:
        named = weights or os.environ.get("COTRACKER_WEIGHTS")
        where = f"no weights at {named}" if named else "its weights were not found"
        remedy = "set COTRACKER_WEIGHTS to the file scaled_offline.pth"
    return f"CoTracker3 cannot be used: {where}; {remedy}, or choose the tracker dis ({LICENCE})"


def track_cotracker(
    frames: torch.Tensor, queries: torch.Tensor, query_frames: torch.Tensor, device: torch.device | str, predictor: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow points by a CoTracker3 predictor, 256 at a time, backwards too unless all query frames are the first.

    Convention: CoTracker counts px from the centre of the first pixel, we from its corner: half a px apart.

    Args: frames (T, H, W, 3) uint8; queries (N, 2) (x, y) in [0, 1] at `query_frames` (N,).
    Returns: points (N, T, 2) in [0, 1], visible (N, T) bool, on the CPU.
    """
    predictor = predictor.to(device)
    video = frames.permute(0, 3, 1, 2)[None].to(device, torch.float32)  # (1, T, 3, H, W), 0..255
    size = torch.tensor([frames.shape[2], frames.shape[1]], dtype=torch.float32)
    pixels = queries.float() * size - 0.5
    times = query_frames[:, None].float()
    points, visible = [], []
    with torch.no_grad():
        for asked in torch.cat([times, pixels], dim=1).split(QUERIES_PER_PASS):
            found, seen = predictor(video, queries=asked[None].to(device), backward_tracking=bool(query_frames.any()))
            points.append(found[0].transpose(0, 1).float().cpu())
            visible.append(seen[0].T.cpu().bool())
    return (torch.cat(points) + 0.5) / size, torch.cat(visible)


def _predictor_class(code: Path) -> type:
    """`cotracker.predictor.CoTrackerPredictor`, imported from that folder without leaving it on the search path."""
    sys.path.insert(0, str(code))
    try:
        return importlib.import_module("cotracker.predictor").CoTrackerPredictor
    except ImportError as error:
        raise ValueError(f"CoTracker3's code in {code} does not import ({error}); update the checkout") from error
    finally:
        sys.path.remove(str(code))

"""Motion transfer on video diffusion transformers, in plain torch: no ComfyUI needed, none imported.

The names below are the public ones (docs/develop/python.md); each is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers; the same names as below
    from .adapter.attach import attach as attach
    from .adapter.motion_adapter import MotionAdapter as MotionAdapter
    from .adapter.temporal_kernel import TemporalKernel as TemporalKernel
    from .metrics import edit_fidelity as edit_fidelity
    from .metrics import leakage as leakage
    from .metrics import motion_fidelity as motion_fidelity
    from .metrics import temporal_consistency as temporal_consistency
    from .models.base_model import load_base_model as load_base_model
    from .models.denoiser import Denoiser as Denoiser
    from .models.denoiser import DiffusersDenoiser as DiffusersDenoiser
    from .models.families import kept_blocks as kept_blocks
    from .models.families import spec_for as spec_for
    from .models.sample import sample as sample
    from .tracking.trackers import track as track
    from .tracking.tracks import Tracks as Tracks
    from .tracking.tracks import sample_query_points as sample_query_points
    from .training.loop import TrainConfig as TrainConfig
    from .training.loop import train_motion_adapter as train_motion_adapter
    from .training.losses import denoising_loss as denoising_loss
    from .training.losses import tracking_loss as tracking_loss
    from .training.run import TrainResult as TrainResult

_HOMES = {
    "adapter.attach": ("attach",),
    "adapter.motion_adapter": ("MotionAdapter",),
    "adapter.temporal_kernel": ("TemporalKernel",),
    "metrics": ("edit_fidelity", "leakage", "motion_fidelity", "temporal_consistency"),
    "models.base_model": ("load_base_model",),
    "models.denoiser": ("Denoiser", "DiffusersDenoiser"),
    "models.families": ("kept_blocks", "spec_for"),
    "models.sample": ("sample",),
    "tracking.trackers": ("track",),
    "tracking.tracks": ("Tracks", "sample_query_points"),
    "training.loop": ("TrainConfig", "train_motion_adapter"),
    "training.losses": ("denoising_loss", "tracking_loss"),
    "training.run": ("TrainResult",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"det_core has no public name {name!r}; see docs/develop/python.md")
    globals()[name] = value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)

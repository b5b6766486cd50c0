"""Measures of a motion transfer: motion, prompt, consistency, source leakage (docs/understand/metrics.md)."""

from .appearance import Leakage, diversity, edit_fidelity, leakage, temporal_consistency
from .motion import MotionScore, frechet_distance, matching_of, motion_fidelity

__all__ = [
    "Leakage",
    "MotionScore",
    "diversity",
    "edit_fidelity",
    "frechet_distance",
    "leakage",
    "matching_of",
    "motion_fidelity",
    "temporal_consistency",
]

"""The source clip of `make demo`: a red circle that flies one loop. Its video file is shipped beside this module."""

from pathlib import Path

import torch

from .corpus import Clip, Scene, make_clip

DEMO_SOURCE = Path(__file__).with_name("demo_source.mp4")
DEMO_SCENE = Scene("red", "circle", "navy", "plain")


def demo_clip() -> Clip:
    """The clip that `demo_source.mp4` holds, rendered anew (frames (9, 64, 64, 3), the true path, the scene)."""
    return make_clip(DEMO_SCENE, "loop", torch.Generator().manual_seed(29))

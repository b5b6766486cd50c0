"""An adapter for the pictures of the documentation."""

from __future__ import annotations

from pathlib import Path


def write_demo_adapter(folder: Path) -> None:
    """The adapter that the template "reuse a saved adapter" loads, as the embedded demo saves it."""
    from det_core.adapter.motion_adapter import MotionAdapter
    from det_core.models.embedded.model import build_transformer
    from det_core.models.families import spec_for

    if not (folder / "embedded demo.safetensors").exists():
        MotionAdapter.create(spec_for(build_transformer())).save(folder / "embedded demo.safetensors")

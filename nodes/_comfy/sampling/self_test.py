"""The first call of a model, watched: its core may have changed since this pack was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import comfy.patcher_extension
import comfyui_version

from ....det_core.adapter.tap_check import TapWatch
from ....det_core.models.families import unwrapped
from .call import VideoTokens

Wrappers = comfy.patcher_extension.WrappersMP


class SelfTest:
    """A context around every call of a model; the first whole one shows whether its taps are as the spec says."""

    def __init__(self):
        self.passed = False

    @contextmanager
    def around(
        self, model, video: VideoTokens, options: Mapping[str, Any], tapped: AbstractContextManager | None = None
    ) -> Iterator[None]:
        """options: the call's `transformer_options`. tapped: a context to enter; the test sees what comes before it.

        Raises: ValueError naming the module and ComfyUI's version.
        """
        tapped = tapped or nullcontext()
        if self.passed or _compiled(options):  # another forward for once would compile everything twice
            with tapped:
                yield
            return
        watch = self.check_modules(model, video)
        with tapped, watch.watching(unwrapped(model.diffusion_model)):
            yield
        whole = not _may_skip_blocks(options)
        watch.finish(whole)
        self.passed = whole

    def check_modules(self, model, video: VideoTokens) -> TapWatch:
        """The test of one call, once all modules are there. Raises: as `around`."""
        watch = TapWatch(video.spec, video.grid, f"{type(model).__name__} of ComfyUI {comfyui_version.__version__}")
        watch.modules(unwrapped(model.diffusion_model))
        return watch


def _compiled(options: Mapping[str, Any]) -> bool:
    return "torch.compile" in options.get("wrappers", {}).get(Wrappers.APPLY_MODEL, {})


def _may_skip_blocks(options: Mapping[str, Any]) -> bool:
    """Whether something may answer in place of the model or of a block, as EasyCache and SkipLayerGuidance do."""
    return bool(options.get("wrappers", {}).get(Wrappers.DIFFUSION_MODEL) or options.get("patches_replace"))

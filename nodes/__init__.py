"""The nodes. This package is the only code that imports ComfyUI; everything it does is done by det_core."""

from comfy_api.latest import ComfyExtension, io

from ._comfy.paths import register_folders


class DeTExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .adapter_files import DeTLoadMotionAdapter, DeTSaveMotionAdapter
        from .apply import DeTApplyMotionAdapter
        from .conditioning_files import DeTLoadConditioning, DeTSaveConditioning
        from .evaluate import DeTEvaluateMotion
        from .fym_heads import FYMClassifyHeads
        from .fym_train import FYMTrainMotionLoRA
        from .guide import DeTGuideMotion
        from .load import DeTLoadDiT, DeTTinyModel
        from .stepvideo import DeTEmptyStepVideoLatent, DeTLoadStepVideoText, DeTLoadStepVideoVAE
        from .tiny_clip import DeTTinyClip
        from .track import DeTTrackVideo
        from .tracks_json import DeTTracksFromJSON, DeTTracksToJSON
        from .train import DeTTrainMotionAdapter

        return [
            DeTLoadDiT,
            DeTTinyModel,
            DeTTinyClip,
            DeTTrackVideo,
            DeTTracksToJSON,
            DeTTracksFromJSON,
            DeTTrainMotionAdapter,
            DeTSaveMotionAdapter,
            DeTLoadMotionAdapter,
            DeTApplyMotionAdapter,
            DeTGuideMotion,
            DeTEvaluateMotion,
            FYMClassifyHeads,
            FYMTrainMotionLoRA,
            DeTLoadStepVideoText,
            DeTLoadStepVideoVAE,
            DeTEmptyStepVideoLatent,
            DeTSaveConditioning,
            DeTLoadConditioning,
        ]

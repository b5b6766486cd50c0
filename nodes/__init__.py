"""The nodes. A node's file has its schema and a few lines, and knows ComfyUI's node API alone; `_comfy` beneath is the
only code that imports the rest of ComfyUI. What is computed is computed by det_core."""

from comfy_api.latest import ComfyExtension, io

from ._comfy.loading.paths import register_folders


class DeTExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .adapter_files import DeTLoadMotionAdapter, DeTMotionLibrary, DeTSaveMotionAdapter
        from .apply import DeTApplyMotionAdapter
        from .blocks import DeTShowBlocks
        from .compare import DeTCompareVideos
        from .conditioning_files import DeTLoadConditioning, DeTSaveConditioning
        from .evaluate import DeTEvaluateMotion
        from .fit import DeTFitVideo
        from .fym_heads import FYMClassifyHeads
        from .fym_save import FYMSaveMotionLoRA
        from .fym_train import FYMTrainMotionLoRA
        from .guide import DeTGuideMotion
        from .load import DeTLoadDiT, DeTTinyModel
        from .motion_files import DeTLoadMotion, DeTSaveMotion
        from .stepvideo import DeTEmptyStepVideoLatent, DeTLoadStepVideoText, DeTLoadStepVideoVAE
        from .tiny_clip import DeTTinyClip
        from .track import DeTTrackVideo
        from .tracks_json import DeTTracksFromJSON, DeTTracksToJSON
        from .train import DeTTrainMotionAdapter

        return [
            DeTLoadDiT,
            DeTTinyModel,
            DeTTinyClip,
            DeTFitVideo,
            DeTTrackVideo,
            DeTTracksToJSON,
            DeTTracksFromJSON,
            DeTTrainMotionAdapter,
            DeTSaveMotionAdapter,
            DeTLoadMotionAdapter,
            DeTMotionLibrary,
            DeTApplyMotionAdapter,
            DeTShowBlocks,
            DeTGuideMotion,
            DeTEvaluateMotion,
            DeTCompareVideos,
            FYMClassifyHeads,
            FYMTrainMotionLoRA,
            FYMSaveMotionLoRA,
            DeTLoadStepVideoText,
            DeTLoadStepVideoVAE,
            DeTEmptyStepVideoLatent,
            DeTSaveConditioning,
            DeTLoadConditioning,
            DeTSaveMotion,
            DeTLoadMotion,
        ]

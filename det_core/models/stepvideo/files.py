"""The published folder of Step-Video-T2V: where each part is, and what is missing, asked before anything is read.

Layout (stepfun-ai/stepvideo-t2v): transformer/, vae/vae_v2.safetensors, step_llm/ with its SentencePiece model,
hunyuan_clip/clip_text_encoder/ and hunyuan_clip/tokenizer/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...files import shards

PIPELINE = "StepVideoPipeline"
LLM_TOKENIZER = "step1_chat_tokenizer.model"


@dataclass(frozen=True)
class TextFiles:
    """The two text encoders: folders of weights, and their tokenizers."""

    llm: Path
    tokenizer: Path
    clip_weights: Path
    clip_tokenizer: Path

    @classmethod
    def of(cls, folder: Path) -> TextFiles:
        """Those in a published folder. Raises ValueError naming what is missing."""
        clip = folder / "hunyuan_clip"
        files = cls(
            folder / "step_llm",
            folder / "step_llm" / LLM_TOKENIZER,
            clip / "clip_text_encoder" / "pytorch_model.bin",
            clip / "tokenizer",
        )
        require(folder, files.tokenizer, files.clip_weights, files.clip_tokenizer / "vocab.txt")
        shards(files.llm)
        return files


def require(folder: Path, *paths: Path) -> None:
    """Raises ValueError naming every path that is not there."""
    missing = [str(path.relative_to(folder)) for path in paths if not path.exists()]
    if missing:
        raise ValueError(
            f"{folder} is no whole Step-Video-T2V: {', '.join(missing)} missing; download it again "
            "(stepfun-ai/stepvideo-t2v)"
        )

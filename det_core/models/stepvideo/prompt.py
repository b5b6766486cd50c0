"""A prompt as Step-Video's two text encoders read it: what is added to it, its tokens, and what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

# The reference's pipeline puts the first behind every prompt, without a space, and takes the second as negative prompt:
# "ultra high definition, HDR, steady picture, fluent movement, ..." and "dark, low resolution, bad hands, blurred, ..."
POSITIVE_SUFFIX = (
    "超高清、HDR 视频、环境光、杜比全景声、画面稳定、流畅动作、逼真的细节、专业级构图、超现实主义、自然、生动、超细节、"
    "清晰。"
)
NEGATIVE_PROMPT = (
    "画面暗、低分辨率、不良手、文本、缺少手指、多余的手指、裁剪、低质量、颗粒状、签名、水印、用户名、模糊。"
)

LLM_TOKENS, LLM_START, LLM_END = 320, 1, 2
CLIP_TOKENS, CLIP_START, CLIP_END, CLIP_PAD = 77, 101, 102, 0


def llm_tokens(text: str, tokenizer: Any) -> list[int]:
    """Ids of Step-LLM by its SentencePieceProcessor, start and end included, at most 320, without padding.

    The reference pads to 320 and masks; the model is causal, so padding behind the text changes nothing in it.
    """
    pieces = tokenizer.encode(text, add_bos=False, add_eos=False)
    return [LLM_START, *_fitted(pieces, LLM_TOKENS - 2, tokenizer, "Step-LLM"), LLM_END]


def clip_tokens(text: str, tokenizer: Any) -> tuple[list[int], int]:
    """Ids of the Hunyuan CLIP by its BertTokenizer, padded to 77, and how many of them are the text's.

    The encoder attends to the text's alone, the transformer to the states of all 77.
    """
    pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [CLIP_START, *_fitted(pieces, CLIP_TOKENS - 2, tokenizer, "the Hunyuan CLIP"), CLIP_END]
    return ids + [CLIP_PAD] * (CLIP_TOKENS - len(ids)), len(ids)


def _fitted(ids: Sequence[int], room: int, tokenizer: Any, encoder: str) -> list[int]:
    if len(ids) > room:
        rest = tokenizer.decode(list(ids[room:]))
        log.warning("the prompt has %d tokens, %s reads %d: it does not see %r", len(ids), encoder, room, rest)
    return list(ids[:room])

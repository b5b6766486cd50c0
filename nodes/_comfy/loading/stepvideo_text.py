"""Step-Video's two text encoders as an ordinary CLIP: Step-LLM (det_core's) and the Hunyuan CLIP (ComfyUI's own)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy.text_encoders.hydit import HyditBertModel, HyditBertTokenizer
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer

from ....det_core.files import shards
from ....det_core.models.stepvideo import hunyuan_clip
from ....det_core.models.stepvideo.files import TextFiles
from ....det_core.models.stepvideo.prompt import clip_tokens, llm_tokens
from ....det_core.models.stepvideo.step_llm import StepLLM, published_sizes

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class StepVideoTokenizer:
    """No weights and no embeddings: parentheses are text, as in the reference."""

    def __init__(self, embedding_directory=None, tokenizer_data: Mapping[str, Any] | None = None):
        self.llm = SPieceTokenizer(tokenizer_data["step_llm"])
        self.clip = HyditBertTokenizer(embedding_directory=embedding_directory)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_unused) -> dict:
        llm, (clip, _) = llm_tokens(text, self.llm.tokenizer), clip_tokens(text, self.clip.tokenizer)
        return {"step_llm": [_weighted(llm, return_word_ids)], "hydit_clip": [_weighted(clip, return_word_ids)]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple]:
        return [(pair, self.llm.tokenizer.id_to_piece(pair[0])) for pair in pairs]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"step_llm.spiece_model": self.llm.serialize_model()}


def _weighted(ids: list[int], word_ids: bool) -> list[tuple]:
    return [(token, 1.0, 0) if word_ids else (token, 1.0) for token in ids]


class StepVideoText(torch.nn.Module):
    """Step-LLM computes in bfloat16 (float32 weights: float32), the Hunyuan CLIP in float32, as in the reference."""

    def __init__(self, device="cpu", dtype=None, model_options: dict | None = None, *, llm: dict, clip: dict):
        """llm, clip: sizes of Step-LLM and of the Hunyuan CLIP."""
        super().__init__()
        self.compute = torch.bfloat16 if dtype in FP8 else dtype
        self.step_llm = StepLLM(**llm, operations=comfy.ops.manual_cast, dtype=dtype, device=device).eval()
        options = {**(model_options or {}), "hydit_clip_model_config": clip}
        self.hydit_clip = HyditBertModel(device=device, dtype=torch.float32, model_options=options)
        self.requires_grad_(False)
        self.dtypes = {dtype, torch.float32}
        self.execution_device = None

    def set_clip_options(self, options: dict) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)
        self.hydit_clip.set_clip_options(options)

    def reset_clip_options(self) -> None:
        self.execution_device = None
        self.hydit_clip.reset_clip_options()

    def encode_token_weights(self, tokens: dict) -> tuple[torch.Tensor, None, dict[str, torch.Tensor]]:
        """Step-LLM's states of the text's own tokens, without padding, and the Hunyuan CLIP's of all 77."""
        ids = torch.tensor([[pair[0] for pair in tokens["step_llm"][0]]], device=self.execution_device)
        embedded = self.step_llm.tok_embeddings.word_embeddings(ids, out_dtype=self.compute)
        states = self.step_llm.states(embedded).float().to(mm.intermediate_device())
        clip = self.hydit_clip.encode_token_weights(tokens["hydit_clip"])[0]
        return states, None, {"clip_context": clip}


@dataclass
class _Target:
    """What `comfy.sd.CLIP` builds from."""

    params: dict
    clip: type = StepVideoText
    tokenizer: type = StepVideoTokenizer


def load_text_encoders(files: TextFiles) -> comfy.sd.CLIP:
    """Both encoders of a published folder as a CLIP.

    Raises: ValueError if tensors are missing, before the object is built.
    """
    llm: dict[str, torch.Tensor] = {}
    for shard in shards(files.llm):
        llm.update(comfy.utils.load_torch_file(str(shard)))
    bert = hunyuan_clip.read(files.clip_weights)
    dtype = comfy.utils.weight_dtype(llm)
    state_dict = {f"step_llm.{key}": value for key, value in llm.items()}
    state_dict |= {f"hydit_clip.transformer.{key}": value for key, value in bert.items()}
    sizes = {"llm": published_sizes(llm), "clip": hunyuan_clip.sizes(bert)}
    with torch.device("meta"):
        wanted = StepVideoText(dtype=dtype, **sizes).state_dict()
    missing = sorted(name for name in wanted if name not in state_dict and "logit_scale" not in name)
    if missing:
        raise ValueError(f"the text encoders are incomplete: {missing[0]} is missing; download the folder again")
    return comfy.sd.CLIP(
        _Target(sizes),
        tokenizer_data={"step_llm": files.tokenizer.read_bytes()},
        parameters=comfy.utils.calculate_parameters(state_dict),
        state_dict=state_dict,
        model_options={"dtype": dtype},
    )

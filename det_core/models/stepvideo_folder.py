"""The published folder of Step-Video-T2V as a `BaseModel`.

Nothing of the size of a text encoder stays: each prompt is encoded once, Step-LLM's weights are read from the files as
they are needed, and on a GPU its layers visit it one at a time, so that the transformer can wait there.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from sentencepiece import SentencePieceProcessor
from torch import nn

from ..files import shards
from .compute.offload import offload_layers
from .compute.precision import Compute
from .denoiser import Condition, DiffusersDenoiser
from .families import DiTSpec, spec_for
from .stepvideo import hunyuan_clip, step_llm, transformer, vae
from .stepvideo.files import TextFiles, require
from .stepvideo.prompt import LLM_TOKENS, NEGATIVE_PROMPT, POSITIVE_SUFFIX, clip_tokens, llm_tokens

VAE_FILE = Path("vae") / "vae_v2.safetensors"


def folder_spec(folder: Path) -> DiTSpec:
    """The spec of a folder's model, from the headers of its files alone; those of its text encoders are opened, too.

    Raises: ValueError if the folder is not whole, or is of another model of StepFun.
    """
    if "turbo" in folder.name.lower():
        raise ValueError(
            f"--model {folder} is Step-Video-T2V Turbo, which is distilled for a few steps: motion is learned on the "
            "base model (stepfun-ai/stepvideo-t2v)"
        )
    texts = TextFiles.of(folder)
    for shard in shards(texts.llm):
        _headers(shard)
    hunyuan_clip.read(texts.clip_weights)
    require(folder, folder / VAE_FILE)
    vae.file_keys(_headers(folder / VAE_FILE))
    headers = {key: t for shard in shards(folder / "transformer") for key, t in _headers(shard).items()}
    sizes = transformer.published_sizes(headers)
    return spec_for(transformer.StepVideoTransformer(**sizes, device="meta"))


def _headers(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file without their numbers."""
    try:
        with safe_open(path, "pt") as file:
            return {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; download it again") from None


class StepVideoFolder:
    """See `BaseModel`. `positive_suffix` is put behind every prompt, `negative_prompt` stands for the empty one."""

    at_once = 1

    def __init__(self, folder: Path, compute: Compute, *, low_vram: bool = False):
        """low_vram: the transformer's blocks visit the device one at a time, and videos are coded in pieces.

        Raises: ValueError, before any weight is read, if something is missing or the folder is of another model.
        """
        folder_spec(folder)
        self.texts = TextFiles.of(folder)
        self.name, self.compute, self.low_vram = folder.name, compute, low_vram
        self.positive_suffix, self.negative_prompt = POSITIVE_SUFFIX, NEGATIVE_PROMPT
        weights = _weights(folder / "transformer", compute.dtype)
        sizes = transformer.published_sizes(weights)
        model = _filled(transformer.StepVideoTransformer(**sizes, dtype=compute.dtype, device="meta"), weights)
        self.denoiser = DiffusersDenoiser(model, device=compute.device, bf16=compute.bf16)
        if low_vram:
            self.denoiser.offload()
        else:
            model.to(compute.device)
        weights = vae.file_keys(load_file(folder / VAE_FILE))
        self.vae = _filled(vae.StepVideoVAE(**vae.published_sizes(weights), device="meta"), weights).to(compute.dtype)
        self._encoded: dict[str, Condition] = {}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Each prompt is encoded once; the encoders are opened anew for prompts that are new, so give all together."""
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._encoded]:
            texts = {prompt: prompt + self.positive_suffix if prompt else self.negative_prompt for prompt in new}
            clip = self._clip_states(texts)
            llm = self._llm_states(texts)
            self._encoded |= {prompt: _padded(llm[prompt], clip[prompt]) for prompt in new}
        rows = [self._encoded[prompt] for prompt in prompts]
        return {key: torch.cat([row[key] for row in rows]).to(self.denoiser.device) for key in rows[0]}

    def _llm_states(self, texts: dict[str, str]) -> dict[str, torch.Tensor]:
        """States (1, tokens, width) of each text on the CPU, without padding."""
        tokenizer = SentencePieceProcessor(model_file=str(self.texts.tokenizer))
        dtype, device = self.compute.dtype, self.denoiser.device
        weights = _weights(self.texts.llm, dtype)
        model = _filled(step_llm.StepLLM(**step_llm.published_sizes(weights), dtype=dtype, device="meta"), weights)
        if device.type != "cpu":
            offload_layers(model, step_llm.StepLayer.__name__, device=device)
        tokens = {name: torch.tensor([llm_tokens(text, tokenizer)], device=device) for name, text in texts.items()}
        return {name: model(ids).cpu() for name, ids in tokens.items()}

    def _clip_states(self, texts: dict[str, str]) -> dict[str, torch.Tensor]:
        """States (1, 77, width) of each text on the CPU, computed in float32 as the reference does."""
        from transformers import BertTokenizer

        tokenizer = BertTokenizer.from_pretrained(self.texts.clip_tokenizer)
        model = _hunyuan_clip(hunyuan_clip.read(self.texts.clip_weights)).to(self.denoiser.device)
        states = {}
        for name, text in texts.items():
            ids, count = clip_tokens(text, tokenizer)
            mask = torch.tensor([[1] * count + [0] * (len(ids) - count)], device=model.device)
            found = model(torch.tensor([ids], device=model.device), attention_mask=mask).last_hidden_state
            states[name] = found.to("cpu", self.compute.dtype)
        return states

    @torch.no_grad()
    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        codec = self.vae.to(self.denoiser.device)
        pixels = (frames * 2 - 1).permute(3, 0, 1, 2)[None].to(self.denoiser.device, self.compute.dtype)
        # The reference draws from the posterior; its mean differs by the posterior's tiny deviation.
        latents = (codec.encode_tiled if self.low_vram else codec.encode)(pixels).float()
        codec.to("cpu")
        return latents

    @torch.no_grad()
    def decode_video(self, latents: torch.Tensor) -> torch.Tensor:
        codec = self.vae.to(self.denoiser.device)
        latents = latents.to(self.denoiser.device, self.compute.dtype)
        pixels = (codec.decode_tiled if self.low_vram else codec.decode)(latents)
        codec.to("cpu")
        return (pixels[0].permute(1, 2, 3, 0).float().cpu() / 2 + 0.5).clamp(0, 1)


def _weights(folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All tensors of a folder of shards in `dtype`; in their own, they stay in the files until they are read."""
    return {key: tensor.to(dtype) for shard in shards(folder) for key, tensor in load_file(shard).items()}


def _filled(module: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """`module`, made without memory, with these weights. Raises ValueError naming the first that is missing."""
    missing = sorted(module.state_dict().keys() - weights.keys())
    if missing:
        raise ValueError(f"the weights are incomplete: {missing[0]} is missing; download the folder again")
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def _padded(llm: torch.Tensor, clip: torch.Tensor) -> Condition:
    """One prompt as the transformer takes it, Step-LLM's states padded so that prompts can be stacked."""
    count, room = llm.shape[1], LLM_TOKENS - llm.shape[1]
    mask = torch.tensor([[1] * (clip.shape[1] + count) + [0] * room])
    return {"llm_states": nn.functional.pad(llm, (0, 0, 0, room)), "clip_states": clip, "text_mask": mask}


def _hunyuan_clip(weights: dict[str, torch.Tensor]) -> nn.Module:
    """In float32, as the reference runs it."""
    from transformers import BertConfig, BertModel

    config = BertConfig(**hunyuan_clip.sizes(weights), layer_norm_eps=1e-12)
    named = {key.removeprefix("bert."): tensor.float() for key, tensor in weights.items()}
    return _filled(BertModel(config, add_pooling_layer=False), named)

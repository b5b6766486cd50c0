"""A published folder of Step-Video-T2V with small random models, as its repository lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import stepvideo_golden as small
import torch
from safetensors.torch import save_file

from det_core.models.stepvideo.step_llm import StepLLM
from det_core.models.stepvideo.transformer import StepVideoTransformer
from det_core.models.stepvideo.vae import StepVideoVAE

LLM = {"dim": 256, "heads": 2, "groups": 1, "layers": 2, "ffn": 200, "vocabulary": 64}
CLIP_WIDTH, CLIP_VOCABULARY = 64, 47020  # the vocabulary of ComfyUI's tokenizer
LATENT_CHANNELS = 4
SENTENCES = ("a red panda dances in the snow", "a blue boat drifts on a calm lake", "two cats (small ones) run")


def write_folder(folder: Path, *, blocks: int = 3) -> Path:
    """Write everything; returns `folder`. The transformer is in two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / "model_index.json", {"_class_name": "StepVideoPipeline"})
    write_transformer(folder / "transformer", blocks=blocks)
    write_vae(folder / "vae" / "vae_v2.safetensors")
    write_text_encoders(folder)
    return folder


def transformer(blocks: int = 3) -> StepVideoTransformer:
    sizes = {"num_heads": 3, "head_width": 16, "num_layers": blocks, "in_channels": LATENT_CHANNELS}
    return small.with_weights(StepVideoTransformer(**sizes, caption_channels=(LLM["dim"], CLIP_WIDTH)), 5)


def vae() -> StepVideoVAE:
    widths = {"encoder_widths": (32,) * 4, "decoder_widths": (32,) * 4}
    return small.with_weights(StepVideoVAE(latent_channels=LATENT_CHANNELS, base=32, **widths, blocks=1), 6)


def write_transformer(folder: Path, *, blocks: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = transformer(blocks).state_dict()
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {key: names["transformer_blocks" in key] for key in state}
    for name in names:
        save_file({key: state[key] for key in state if where[key] == name}, folder / name)
    _json(folder / "diffusion_pytorch_model.safetensors.index.json", {"weight_map": where})
    _json(folder / "config.json", {"_class_name": "StepVideoModel"})


def write_vae(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = vae().state_dict()
    save_file({k.replace("decoder.conv_out.conv.", "decoder.conv_out."): t for k, t in state.items()}, path)


def write_text_encoders(folder: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    llm, clip = folder / "step_llm", folder / "hunyuan_clip"
    for path in (llm, clip / "clip_text_encoder", clip / "tokenizer"):
        path.mkdir(parents=True, exist_ok=True)
    save_file(small.with_weights(StepLLM(**LLM), 7).state_dict(), llm / "model.safetensors")
    with open(llm / "step1_chat_tokenizer.model", "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20),
            model_writer=file,
            vocab_size=LLM["vocabulary"],
            model_type="bpe",
            hard_vocab_limit=False,
            minloglevel=2,
        )
    torch.save(_bert_weights(), clip / "clip_text_encoder" / "pytorch_model.bin")
    words = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += sorted({word.strip("()") for sentence in SENTENCES for word in sentence.split()})
    (clip / "tokenizer" / "vocab.txt").write_text("\n".join(words) + "\n")
    _json(clip / "tokenizer" / "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"})


def _bert_weights() -> dict[str, torch.Tensor]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=CLIP_WIDTH,
        num_attention_heads=1,
        num_hidden_layers=2,
        intermediate_size=64,
        vocab_size=CLIP_VOCABULARY,
        layer_norm_eps=1e-12,
    )
    state = small.with_weights(BertModel(config), 8).state_dict()
    return {f"bert.{key}": tensor for key, tensor in state.items()} | {"cls.predictions.bias": torch.zeros(2)}


def _json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value))

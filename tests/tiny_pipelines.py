"""Whole diffusers pipelines in small, random weights, one for every way in which a supported base model is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_dits import build, randomise
from torch import nn

from det_core.models.embedded.model import build_scheduler

WORDS = "a red dog cat runs on in the grass snow".split()
TEXT_WIDTH = 32


def tokenizer() -> Any:
    """One token a word, 0 pads, 1 ends a text, 2 stands for words it has not."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=512
    )


def t5() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    ).eval()


def cogvideox(**config: Any) -> Any:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline

    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    settings = {"blocks": 3, "text_embed_dim": TEXT_WIDTH, "max_text_seq_length": 226, **config}
    return CogVideoXPipeline(tokenizer(), t5(), vae, build("cogvideox", **settings), build_scheduler())


def hunyuan_video() -> Any:
    from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    sizes = {"hidden_size": 16, "intermediate_size": 37, "num_attention_heads": 4, "vocab_size": 64}
    llama = LlamaModel(LlamaConfig(**sizes, num_hidden_layers=4)).eval()
    clip = CLIPTextModel(CLIPTextConfig(**sizes, num_hidden_layers=2, eos_token_id=1, pad_token_id=0)).eval()
    vae = AutoencoderKLHunyuanVideo(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    transformer = build("hunyuan_video", pooled_projection_dim=16)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    return HunyuanVideoPipeline(llama, tokenizer(), transformer, vae, scheduler, clip, tokenizer())


def wan(channels: int = 4, experts: bool = False, unipc: bool = False, **pipeline: Any) -> Any:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline
    from transformers import UMT5Config, UMT5EncoderModel

    text = UMT5EncoderModel(
        UMT5Config(vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    ).eval()
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1 * i for i in range(channels)],
        latents_std=[1 + 0.2 * i for i in range(channels)],
    )
    sizes = {"text_dim": TEXT_WIDTH, "in_channels": channels, "out_channels": channels}
    if unipc:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    second = {"transformer_2": build("wan", seed=7, **sizes), "boundary_ratio": 0.875} if experts else {}
    return WanPipeline(tokenizer(), text, vae, scheduler, build("wan", **sizes), **second, **pipeline)


def ltx(**scheduler: Any) -> Any:
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline

    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.register_buffer("latents_mean", torch.linspace(-0.5, 0.5, 8))
    vae.register_buffer("latents_std", torch.linspace(0.5, 1.5, 8))
    settings = {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "shift_terminal": 0.1}
    flow = FlowMatchEulerDiscreteScheduler(**{**settings, **scheduler})
    return LTXPipeline(flow, vae, t5(), tokenizer(), build("ltx", caption_channels=TEXT_WIDTH))


# name -> (pipeline, pixel frames to sample, latent grid of one)
PIPELINES = {
    "cogvideox": lambda: cogvideox(),
    "cogvideox 2b": lambda: cogvideox(use_rotary_positional_embeddings=False, sample_height=4, sample_width=6),
    "cogvideox 1.5": lambda: cogvideox(patch_size_t=2, sample_height=8, sample_width=8),
    "hunyuan_video": hunyuan_video,
    "wan 2.1": wan,
    "wan 2.1, UniPC": lambda: wan(unipc=True),
    "wan 2.2 A14B": lambda: wan(experts=True),
    "wan 2.2 5B": lambda: wan(channels=48, expand_timesteps=True),
    "ltx": ltx,
    "ltx, static shift": lambda: ltx(use_dynamic_shifting=False, shift=2.37, shift_terminal=None),
}


def saved(name: str, folder: Path) -> Path:
    """The folder of the pipeline `name`, every weight of it random and none of them zero."""
    torch.manual_seed(0)
    pipe = PIPELINES[name]()
    randomise(pipe.vae, 3)
    pipe.save_pretrained(folder)
    return folder

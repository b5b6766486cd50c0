"""Names of weights: diffusers' to ComfyUI's own and back."""

from __future__ import annotations

import pytest
import torch
from tiny_dits import FAMILIES, build

from det_core.models.embedded.model import build_transformer
from det_core.models.families import (
    to_diffusers,
    to_native,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_key_mapping_is_invertible_and_leaves_no_diffusers_name(family):
    tensors = build(family).state_dict()
    native = to_native(family, tensors)
    back = to_diffusers(family, native)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert sum(t.numel() for t in native.values()) == sum(t.numel() for t in tensors.values())
    foreign = {
        "cogvideox": ("transformer_blocks", "to_q", ".linear_1."),
        "hunyuan_video": ("transformer_blocks", "to_q", "embedder.linear", "x_embedder", "context", "ff."),
        "wan": ("attn1", "attn2", "to_q", "condition_embedder", "scale_shift_table", "ffn.net", "norm2"),
        "ltx": ("proj_in", "norm_q", "time_embed."),
        "hunyuan_video15": ("transformer_blocks", "to_q", "embedder.linear", "x_embedder", "context", "ff.", "image_"),
        "ltx2": ("norm_q", "time_embed.", "cross_attn"),
        "minimax_h3": ("transformer_blocks", "to_q", "norm_q", "linear_1", "ff.", "context", "norm_out"),
    }[family]
    assert not [name for name in native if any(part in name for part in foreign)]


def test_key_mapping_of_image_to_video_wan():
    tensors = build("wan", image_dim=12, added_kv_proj_dim=32, pos_embed_seq_len=6).state_dict()
    native = to_native("wan", tensors)
    expected = {"img_emb.emb_pos", "img_emb.proj.0.weight", "img_emb.proj.1.weight", "img_emb.proj.3.bias"}
    expected |= {"img_emb.proj.4.bias", "blocks.1.cross_attn.k_img.weight", "blocks.0.cross_attn.norm_k_img.weight"}
    assert expected <= native.keys()
    assert to_diffusers("wan", native).keys() == tensors.keys()


def test_key_mapping_of_the_embedded_dit():
    tensors = build_transformer(2).state_dict()
    native = to_native("embedded", tensors)
    assert (
        native["blocks.1.attn_out.weight"].data_ptr()
        == tensors["transformer_blocks.1.attn1.to_out.0.weight"].data_ptr()
    )
    assert "time_embedding_linear_2.bias" in native and "patch_embed.proj.weight" in native
    assert to_diffusers("embedded", native).keys() == tensors.keys()


NATIVE_NAMES = {  # a sample of names as ComfyUI's model classes have them
    "cogvideox": ["blocks.0.norm1.linear.weight", "blocks.1.ff_proj.bias", "blocks.1.ff_out.weight", "proj_out.bias"],
    "hunyuan_video": [
        "img_in.proj.weight",
        "txt_in.input_embedder.bias",
        "txt_in.t_embedder.in_layer.weight",
        "txt_in.c_embedder.out_layer.bias",
        "txt_in.individual_token_refiner.blocks.0.self_attn.qkv.weight",
        "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
        "time_in.in_layer.weight",
        "vector_in.out_layer.weight",
        "guidance_in.in_layer.bias",
        "double_blocks.1.txt_attn.norm.key_norm.weight",
        "double_blocks.0.txt_mlp.2.weight",
        "single_blocks.1.linear1.bias",
        "final_layer.adaLN_modulation.1.weight",
        "final_layer.linear.bias",
    ],
    "wan": [
        "text_embedding.2.weight",
        "time_embedding.0.bias",
        "time_projection.1.weight",
        "blocks.1.self_attn.norm_k.weight",
        "blocks.0.cross_attn.o.bias",
        "blocks.0.norm3.weight",
        "blocks.1.ffn.2.weight",
        "blocks.0.modulation",
        "head.modulation",
        "head.head.weight",
        "patch_embedding.weight",
    ],
    "ltx": [
        "patchify_proj.weight",
        "adaln_single.emb.timestep_embedder.linear_1.bias",
        "transformer_blocks.1.attn2.q_norm.weight",
        "caption_projection.linear_1.weight",
        "scale_shift_table",
    ],
    "hunyuan_video15": [
        "byt5_in.layernorm.weight",
        "byt5_in.fc3.bias",
        "vision_in.proj.4.weight",
        "cond_type_embedding.weight",
        "txt_in.c_embedder.out_layer.bias",
        "time_in.in_layer.weight",
        "double_blocks.1.img_attn.qkv.bias",
        "final_layer.adaLN_modulation.1.weight",
    ],
    "ltx2": [
        "patchify_proj.weight",
        "audio_patchify_proj.bias",
        "audio_adaln_single.linear.weight",
        "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.bias",
        "transformer_blocks.1.audio_to_video_attn.q_norm.weight",
        "transformer_blocks.0.scale_shift_table_a2v_ca_audio",
    ],
    "minimax_h3": [
        "video_patch_proj.weight",
        "condition_proj.bias",
        "time_embedder.proj_out.bias",
        "token_refiner.blocks.0.attn.qkv_proj.weight",
        "token_refiner.final_norm.weight",
        "blocks.1.attn.out_proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.adaln_proj.linear.bias",
        "final_layer.adaln_proj.linear.weight",
        "final_layer.audio_out.bias",
    ],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_native_names_are_comfyui_names(family):
    changes = {"cross_attn_norm": True} if family == "wan" else {}
    native = to_native(family, build(family, **changes).state_dict())
    assert [name for name in NATIVE_NAMES[family] if name not in native] == []


def test_hunyuan_final_modulation_swaps_its_halves_and_fused_layers_stack_in_order():
    model = build("hunyuan_video")
    tensors, native = model.state_dict(), to_native("hunyuan_video", model.state_dict())
    scale, shift = tensors["norm_out.linear.weight"].chunk(2)
    assert torch.equal(native["final_layer.adaLN_modulation.1.weight"], torch.cat([shift, scale]))
    parts = [f"single_transformer_blocks.1.{p}.bias" for p in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    assert torch.equal(native["single_blocks.1.linear1.bias"], torch.cat([tensors[p] for p in parts]))


def test_mixed_and_incomplete_checkpoints_are_refused():
    tensors = dict(build("wan").state_dict())
    tensors["head.head.bias"] = tensors["proj_out.bias"]
    with pytest.raises(ValueError, match='two tensors .* map to "head.head.bias"'):
        to_native("wan", tensors)
    tensors = dict(build("hunyuan_video").state_dict())
    del tensors["transformer_blocks.1.attn.to_k.weight"]
    with pytest.raises(ValueError, match="transformer_blocks.1.attn.to_k.weight is missing"):
        to_native("hunyuan_video", tensors)

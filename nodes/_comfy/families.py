"""Tell from the names of its tensors which family a checkpoint belongs to, and whether they are diffusers' names."""

from __future__ import annotations

import torch

from ...det_core.models.families import to_native

# Names that no other supported family has. Diffusers and native names of a block differ in every family.
_DIFFUSERS_MARKS = {
    "cogvideox": ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.linear.weight"),
    "hunyuan_video": ("context_embedder.proj_in.weight", "transformer_blocks.0.attn.add_q_proj.weight"),
    "wan": ("condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight"),
    "ltx": ("proj_in.weight", "time_embed.emb.timestep_embedder.linear_1.weight"),
}
_NATIVE_MARKS = {
    "cogvideox": ("patch_embed.text_proj.weight", "blocks.0.norm1.linear.weight"),
    "hunyuan_video": ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.img_attn.qkv.weight"),
    "wan": ("head.modulation", "blocks.0.self_attn.q.weight"),
    "ltx": ("patchify_proj.weight", "adaln_single.emb.timestep_embedder.linear_1.weight"),
}


def native_weights(state_dict: dict[str, torch.Tensor]) -> tuple[str, dict[str, torch.Tensor]]:
    """(family, weights under native names). Raises ValueError if the checkpoint is of no supported family."""
    for family, marks in _NATIVE_MARKS.items():
        if all(mark in state_dict for mark in marks):
            return family, state_dict
    for family, marks in _DIFFUSERS_MARKS.items():
        if all(mark in state_dict for mark in marks):
            return family, to_native(family, state_dict)
    raise ValueError("these are not the weights of CogVideoX, HunyuanVideo, Wan or LTX-Video")

"""Specs: models are recognised in both layouts with the right geometry and settings; their keys map both ways."""

from __future__ import annotations

import pytest
import torch
from native_dits import NativeCogVideoX, NativeHunyuanVideo, native_twin
from tiny_dits import FAMILIES, build
from torch import nn

from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import (
    call_grid,
    format_blocks,
    kept_blocks,
    parse_blocks,
    spec_for,
    to_diffusers,
    to_native,
)


def meta(name: str, **config) -> nn.Module:
    """A full-size transformer without memory behind its weights."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, name)(**config)


def test_cogvideox_5b_has_the_paper_settings():
    model = meta("CogVideoXTransformer3DModel", num_attention_heads=48, num_layers=42)
    spec = spec_for(model)
    assert (spec.name, spec.layout, spec.dim, spec.num_blocks) == ("cogvideox", "diffusers", 3072, 42)
    assert (spec.patch, spec.frames.latent_frames(49), spec.spatial_compression) == ((1, 2, 2), 13, 8)
    assert spec.grid((1, 16, 13, 60, 90)) == (13, 30, 45)
    assert (spec.prediction, spec.track_limit) == ("v", 400)
    d = spec.defaults
    assert (d.mid_dim, d.kernel_size, d.init_std, d.lr, d.weight_decay) == (128, 3, None, 1e-5, 1e-2)
    assert (d.steps, d.warmup, d.sample_steps, d.cfg) == (500, 0, 50, 6.0)
    assert (d.frames, d.height, d.width) == (49, 480, 720)
    assert kept_blocks(spec.num_blocks, d.drop_fraction) == list(range(15))


def test_hunyuan_video_has_the_paper_settings():
    spec = spec_for(meta("HunyuanVideoTransformer3DModel"))
    assert (spec.name, spec.dim, spec.num_blocks) == ("hunyuan_video", 3072, 60)
    assert spec.taps[19].input == "transformer_blocks.19.attn"
    assert spec.taps[20].input == "single_transformer_blocks.0.attn"
    assert (spec.prediction, spec.track_limit) == ("flow", 550)
    d = spec.defaults
    assert (d.mid_dim, d.kernel_size, d.lr, d.warmup, d.sample_steps) == (128, 5, 1e-5, 100, 30)
    assert (d.frames, d.height, d.width) == (49, 512, 768)
    assert kept_blocks(spec.num_blocks, d.drop_fraction) == list(range(20)), "all 40 single-stream blocks are dropped"


@pytest.mark.parametrize(("channels", "compression"), [(16, 8), (48, 16)])
def test_wan_warns_and_knows_its_vae(channels, compression):
    config = {"num_layers": 3, "num_attention_heads": 12, "in_channels": channels, "out_channels": channels}
    spec = spec_for(meta("WanTransformer3DModel", **config))
    assert (spec.name, spec.dim, spec.num_blocks, spec.patch) == ("wan", 1536, 3, (1, 2, 2))
    assert (spec.frames.rule, spec.spatial_compression, spec.prediction) == ("4k+1", compression, "flow")
    assert "do not work on Wan" in spec.caution
    assert spec.defaults.width % (spec.spatial_compression * 2) == spec.defaults.height % (compression * 2) == 0


def test_ltx():
    spec = spec_for(meta("LTXVideoTransformer3DModel"))
    assert (spec.name, spec.dim, spec.num_blocks, spec.patch) == ("ltx", 2048, 28, (1, 1, 1))
    assert (spec.frames.rule, spec.spatial_compression, spec.prediction) == ("8k+1", 32, "flow")
    spec.frames.check(spec.defaults.frames)


def test_embedded_dit_is_told_from_cogvideox_in_both_layouts():
    spec = spec_for(build_transformer())
    native = spec_for(NativeCogVideoX(128, 2, 8, 128, patch_size=1, in_channels=16))
    for bound in (spec, native):
        assert (bound.name, bound.dim, bound.num_blocks, bound.patch) == ("embedded", 128, 8, (1, 1, 1))
        assert (bound.frames.read_at(9), bound.spatial_compression, bound.prediction) == ([*range(9)], 8, "v")
        assert bound.grid((1, 16, 9, 8, 8)) == (9, 8, 8)
        assert bound.defaults.init_std == pytest.approx((128 * bound.defaults.kernel_size) ** -0.5)
    assert spec.defaults == native.defaults
    assert (spec.layout, native.layout) == ("diffusers", "native")
    assert spec_for(NativeCogVideoX(128, 2, 8, 128)).name == "cogvideox"


def test_a_class_name_does_not_make_a_native_model_a_diffusers_one():
    """ComfyUI's class is called CogVideoXTransformer3DModel, too."""
    namesake = type("CogVideoXTransformer3DModel", (NativeCogVideoX,), {})
    assert spec_for(namesake(32, 2, 3, 16)).layout == "native"


@pytest.mark.parametrize("family", FAMILIES)
def test_both_layouts_of_one_model_agree(family):
    model = build(family)
    ours, native = spec_for(model), spec_for(native_twin(family, model))
    assert (ours.layout, native.layout) == ("diffusers", "native")
    for field in ("name", "dim", "num_blocks", "patch", "frames", "spatial_compression", "defaults"):
        assert getattr(ours, field) == getattr(native, field), field
    for spec, bound in ((ours, model), (native, native_twin(family, model))):
        for tap in spec.taps:
            assert isinstance(bound.get_submodule(tap.input), nn.Module)
            assert isinstance(bound.get_submodule(tap.output), nn.Module)


def test_hunyuan_15_is_double_stream_only_with_a_coarser_vae():
    model = NativeHunyuanVideo(32, 2, doubles=5, singles=0)
    model.patch_size = [1, 1, 1]
    spec = spec_for(model)
    assert (spec.num_blocks, spec.patch, spec.spatial_compression) == (5, (1, 1, 1), 16)
    assert kept_blocks(5, spec.defaults.drop_fraction) == [0, 1]


def test_grid_counts_partly_filled_patches_and_temporal_patches():
    spec = spec_for(build("cogvideox", patch_size_t=2))
    assert spec.patch == (2, 2, 2)
    assert spec.grid((1, 4, 13, 5, 9)) == (7, 3, 5)
    assert spec.grid(torch.Size((2, 4, 1, 1, 1))) == (1, 1, 1)


@torch.no_grad()
def test_odd_latent_frames_are_padded_with_the_first():
    """CogVideoX 1.5 joins two latent frames to a token, and is trained on 13: as on 14, the first two alike."""
    model = build("cogvideox", patch_size_t=2, sample_height=8, sample_width=8)
    denoiser = DiffusersDenoiser(model, build_scheduler())
    x, text = torch.randn(1, 4, 3, 4, 6), {"encoder_hidden_states": torch.randn(1, 5, 16)}
    whole = denoiser.predict_velocity(torch.cat([x[:, :, :1], x], dim=2), torch.tensor([400]), text)
    assert torch.equal(denoiser.predict_velocity(x, torch.tensor([400]), text), whole[:, :, 1:])


def test_latents_that_fill_no_patch_are_refused_with_the_reason():
    for family in ("wan", "hunyuan_video", "cogvideox"):
        spec, shape = spec_for(build(family)), (1, 4, 3, 5, 6)
        latents = torch.zeros(shape).transpose(1, 2) if family == "cogvideox" else torch.zeros(shape)
        with pytest.raises(ValueError, match="3x5x6 cells do not divide into .*multiples of 16 pixels"):
            call_grid(spec, (latents,), {})


def test_a_compiled_model_is_recognised():
    model = build("wan")
    assert spec_for(torch.compile(model, backend="eager")) == spec_for(model)


def test_other_models_are_refused_by_name():
    with pytest.raises(
        ValueError, match="Linear is not a model .* CogVideoX, HunyuanVideo, Wan, LTX-2, LTX-Video, MiniMax H3 and "
    ):
        spec_for(nn.Linear(2, 2))
    image = NativeHunyuanVideo(32, 2, doubles=1, singles=1)
    image.patch_size = [2, 2]
    with pytest.raises(ValueError, match="makes images, not videos"):
        spec_for(image)


def test_a_model_with_sound_is_ltx_2():
    sound = native_twin("ltx", build("ltx"))
    sound.audio_patchify_proj = nn.Linear(1, 1)
    spec = spec_for(sound)
    assert (spec.name, spec.taps[0].tokens, spec.attention) == ("ltx2", "first", "first")


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


@pytest.mark.parametrize(
    ("count", "drop", "kept"),
    [(42, 0.65, 15), (8, 0.65, 3), (60, 0.65, 21), (60, 2 / 3, 20), (60, 40 / 60, 20), (48, 0.66, 17), (10, 0.7, 3)]
    + [(42, 0.0, 42), (42, 1.0, 0), (1, 0.65, 1), (100, 0.29, 71), (100, 0.57, 43)],
)
def test_kept_blocks(count, drop, kept):
    assert kept_blocks(count, drop) == list(range(kept))


def test_default_drop_is_the_papers():
    assert kept_blocks(42) == list(range(15))


@pytest.mark.parametrize("drop", [-0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(drop):
    with pytest.raises(ValueError, match="between 0 and 1"):
        kept_blocks(42, drop)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("0-14, 20", [*range(15), 20]),
        ("3", [3]),
        (" 5 - 7 ,1,6 ", [1, 5, 6, 7]),
        ("", []),
        ("2,2-2", [2]),
        ("0-41", [*range(42)]),
    ],
)
def test_parse_blocks(text, blocks):
    assert parse_blocks(text, 42) == blocks
    assert parse_blocks(format_blocks(blocks), 42) == blocks


def test_format_blocks():
    assert format_blocks([20, 2, 1, 0, 4, 4]) == "0-2, 4, 20"
    assert format_blocks([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-99", r'"3-99" asks for block 99, but this model has blocks 0 to 41'),
        ("42", r'"42" asks for block 42'),
        ("a-b", r'cannot read "a-b" as blocks'),
        ("-3", r'cannot read "-3"'),
        ("3-", r'cannot read "3-"'),
        ("1.5", r'cannot read "1.5"'),
        ("1 2", r'cannot read "1 2"'),
        ("0-14; 20", r'cannot read "0-14; 20"'),
        ("5-3", r'"5-3" runs backwards: write "3-5"'),
    ],
)
def test_bad_block_lists_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_blocks(text, 42)


def test_specs_are_immutable():
    spec = spec_for(build("wan"))
    with pytest.raises(AttributeError):
        spec.dim = 3
    with pytest.raises(AttributeError):
        spec.defaults.lr = 3

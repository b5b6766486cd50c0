"""Specs: models are recognised in both layouts with the right geometry and settings; their keys map both ways."""

from __future__ import annotations

import pytest
import torch
from native_dits import NativeCogVideoX, NativeHunyuanVideo, native_twin
from tiny_dits import WITH_TWINS, build
from torch import nn

from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import (
    call_grid,
    kept_blocks,
    spec_for,
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


@pytest.mark.parametrize("family", WITH_TWINS)
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
    names = "CogVideoX, HunyuanVideo 1.5, HunyuanVideo, Wan, LTX-2, LTX-Video, MiniMax H3 and "
    with pytest.raises(ValueError, match=f"Linear is not a model .* {names}"):
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


def test_specs_are_immutable():
    spec = spec_for(build("wan"))
    with pytest.raises(AttributeError):
        spec.dim = 3
    with pytest.raises(AttributeError):
        spec.defaults.lr = 3

"""diffusers' HunyuanVideo 1.5, LTX-2 and MiniMax H3 under ComfyUI's names: one forward, with and without an adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_models import CASES, H3, LTX23, LTX25, LTXAV
from small_weights import build, randomly

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_dits import filled_adapter, randomise  # noqa: E402

HUNYUAN15 = CASES["HunyuanVideo 1.5"].unet | {"mlp_ratio": 4.0}
_HUNYUAN15 = dict(
    in_channels=65,
    out_channels=32,
    num_attention_heads=1,
    num_layers=2,
    text_embed_dim=32,
)
_LTX = dict(
    num_attention_heads=4,
    attention_head_dim=8,
    cross_attention_dim=32,
    audio_num_attention_heads=2,
    audio_attention_head_dim=8,
    audio_cross_attention_dim=16,
    caption_channels=24,
    num_layers=3,
    rope_type="split",
)
_LTX23 = _LTX | dict(
    gated_attn=True,
    audio_gated_attn=True,
    cross_attn_mod=True,
    audio_cross_attn_mod=True,
    use_prompt_embeddings=False,
)
_H3 = dict(
    num_attention_heads=3,
    attention_head_dim=16,
    hidden_size=32,
    num_layers=3,
    num_refiner_layers=1,
    ffn_dim=64,
    text_dim=40,
    freq_dim=16,
    time_embed_hidden_dim=32,
    time_embed_dim=24,
    rope_freq_dim=2,
)
# name -> (diffusers class, its configuration, class and configuration of ComfyUI, latents, widths of the texts)
PAIRS = {
    "HunyuanVideo 1.5": (
        "HunyuanVideo15Transformer3DModel",
        _HUNYUAN15,
        ("HunyuanVideo15", HUNYUAN15),
        (32, 3, 8, 8),
        (32, 1472),
    ),
    "LTX-2": ("LTX2VideoTransformer3DModel", _LTX, ("LTXAV", LTXAV), (128, 3, 4, 6), (24, 24)),
    "LTX-2.3": ("LTX2VideoTransformer3DModel", _LTX23, ("LTXAV", LTX23), (128, 3, 4, 6), (32, 16)),
    "LTX-2.5": (
        "LTX2VideoTransformer3DModel",
        _LTX23 | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True),
        ("LTXAV", LTX25),
        (128, 3, 4, 6),
        (32, 16),
    ),
    "MiniMax H3": ("MiniMaxH3Transformer3DModel", _H3, ("MiniMaxH3", H3), (24, 7, 4, 6), (40,)),
}
NOT_OURS = (
    "connector",
    "rope.inv_freq",
)  # what prompts pass before the transformer; frequencies that diffusers computes


def both(name: str):
    """The same weights as a diffusers transformer and as ComfyUI's."""
    import diffusers

    from det_core.models.families import spec_for

    kind, config, (native_kind, unet), *_ = PAIRS[name]
    model = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    randomise(model, 0)
    native = build(native_kind, unet).model.diffusion_model
    weights = spec_for(model).family.to_native(model.state_dict())
    missing, unexpected = native.load_state_dict(weights, strict=False)
    assert not unexpected and all(any(part in key for part in NOT_OURS) for key in missing), missing
    return model, native


def native_call(name: str, native, x: torch.Tensor, sigma: float, texts: list[torch.Tensor]) -> torch.Tensor:
    """The velocity of ComfyUI's model."""
    t = torch.full((len(x),), sigma)
    if name.startswith("LTX"):
        return native([x], t, torch.cat(texts, -1), None, frame_rate=25, transformer_options={})
    if name.startswith("MiniMax"):
        return native([x, torch.zeros(1, 32, 2, 0)], 1000 * t, texts[0])[0]
    channels = torch.cat([x, torch.zeros(len(x), 33, *x.shape[2:])], 1)
    return native(channels, 1000 * t, texts[0], txt_byt5=texts[1], transformer_options={})


def told(name: str, texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    cond = {"encoder_hidden_states": texts[0]}
    if name.startswith("LTX"):
        cond["audio_encoder_hidden_states"] = texts[1]
    if name.startswith("Hunyuan"):
        cond |= {"encoder_hidden_states_2": texts[1]}
        cond |= {
            f"encoder_attention_mask{end}": torch.ones(text.shape[:2])
            for end, text in zip(("", "_2"), texts, strict=True)
        }
    return cond


@pytest.mark.parametrize("name", PAIRS)
def test_one_forward_agrees_bare_and_with_the_same_adapter(pack, name):
    from det_core.adapter.attach import attach, tapped
    from det_core.models.denoiser import DiffusersDenoiser
    from det_core.models.families import spec_for

    model, native = both(name)
    shape, widths = PAIRS[name][3:]
    x, texts = randomly(1, *shape), [randomly(1, 6 + i, width) for i, width in enumerate(widths)]
    if len(texts) == 2 and name.startswith("LTX"):
        texts[1] = texts[1][:, :6]
    denoiser, adapter = DiffusersDenoiser(model), filled_adapter(model)
    spec, native_spec = denoiser.spec, spec_for(native)
    fields = ("name", "version", "dim", "attention_dim", "num_blocks", "patch", "frames", "spatial_compression")
    assert [getattr(spec, field) for field in fields] == [getattr(native_spec, field) for field in fields]
    with torch.no_grad():
        theirs = denoiser.predict_velocity(x, torch.tensor([600.0]), told(name, texts))
        ours = native_call(name, native, x, 0.6, texts)
        assert theirs.std() > 0.1
        assert (theirs - ours).abs().max() < 1e-4
        with attach(model, adapter):
            theirs_moved = denoiser.predict_velocity(x, torch.tensor([600.0]), told(name, texts))
        kernels = adapter.kernels_for(native_spec)
        with tapped(native, native_spec, kernels, lambda: native_spec.grid(x.shape)):
            ours_moved = native_call(name, native, x, 0.6, texts)
    assert (theirs_moved - theirs).abs().max() > 1e-2
    assert (theirs_moved - ours_moved).abs().max() < 2e-4


@pytest.mark.parametrize("name", ["HunyuanVideo 1.5", "MiniMax H3"])
def test_weights_are_known_again_in_the_other_layout(pack, name):
    from det_core.models.families import spec_for
    from det_core.models.identity import Identity, identity_of

    model, native = both(name)
    assert identity_of(model, spec_for(model).family) == Identity.of(native.named_parameters())

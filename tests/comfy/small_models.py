"""Small random models of every video class of ComfyUI 0.33, with conditioning for the forms that they are used in.

They are built from the core's own model configurations, in memory; `quantised` gives a model's quantised twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch
from small_weights import build, randomly

HEIGHT, WIDTH, FRAMES = 8, 8, 3
_WAN = dict(image_model="wan2.1", dim=128, num_heads=1, ffn_dim=64, num_layers=3, text_dim=32, freq_dim=32, in_dim=16)
_HUNYUAN = dict(
    image_model="hunyuan_video",
    in_channels=16,
    out_channels=16,
    hidden_size=128,
    num_heads=1,
    mlp_ratio=4.0,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[16, 56, 56],
    theta=256,
    patch_size=[1, 2, 2],
    qkv_bias=True,
    guidance_embed=True,
    context_in_dim=32,
    vec_in_dim=48,
    byt5=False,
    meanflow=False,
    use_cond_type_embedding=False,
    vision_in_dim=None,
    meanflow_sum=False,
)
_HUNYUAN15 = _HUNYUAN | dict(
    in_channels=65,
    out_channels=32,
    depth_single_blocks=0,
    patch_size=[1, 1, 1],
    guidance_embed=False,
    vec_in_dim=None,
    byt5=True,
    use_cond_type_embedding=True,
    vision_in_dim=1152,
    meanflow_sum=True,
    mlp_ratio=1.0,
)
_LTX = dict(
    image_model="ltxv",
    num_layers=3,
    num_attention_heads=4,
    attention_head_dim=8,
    cross_attention_dim=32,
    caption_channels=32,
)
LTXAV = dict(
    image_model="ltxav",
    num_layers=3,
    num_attention_heads=4,
    attention_head_dim=8,
    cross_attention_dim=32,
    audio_num_attention_heads=2,
    audio_attention_head_dim=8,
    audio_cross_attention_dim=16,
    caption_channels=24,
    positional_embedding_max_pos=[20, 2048, 2048],
    audio_positional_embedding_max_pos=[20],
    causal_temporal_positioning=True,
    use_middle_indices_grid=True,
    rope_type="split",
    frequencies_precision="float64",
    connector_attention_head_dim=8,
    connector_num_attention_heads=4,
    connector_num_layers=1,
    audio_connector_attention_head_dim=8,
    audio_connector_num_attention_heads=2,
)
LTX23 = LTXAV | dict(
    caption_channels=32,
    caption_proj_before_connector=True,
    caption_projection_first_linear=False,
    cross_attention_adaln=True,
    apply_gated_attention=True,
    connector_apply_gated_attention=True,
)
LTX25 = LTX23 | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True)
H3 = dict(
    image_model="minimax_h3",
    hidden_size=32,
    num_layers=3,
    token_refiner_num_layers=1,
    num_attention_heads=3,  # the attention is wider than the tokens, as in the real model
    attention_head_dim=16,
    ffn_hidden_size=64,
    latents_dim=24,
    audio_latents_dim=32,
    text_dim=40,
    timestep_input_dim=16,
    time_embed_hidden_size=32,
    time_embed_dim=24,
    rope_inv_freq_len=2,
)
_COG = dict(
    image_model="cogvideox",
    num_attention_heads=2,
    attention_head_dim=64,
    time_embed_dim=32,
    num_layers=3,
    text_embed_dim=32,
    in_channels=16,
    patch_size=2,
    use_rotary_positional_embeddings=True,
)


def _clip(tokens: int) -> dict:
    """What CLIP vision saw, as conditioning holds it."""
    return {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=randomly(1, tokens, 1280))}


def _siglip() -> dict:
    return {"clip_vision_output": SimpleNamespace(last_hidden_state=randomly(1, 9, 1152))}


def _given(channels: int = 16, frames: int = FRAMES, masks: int = 4) -> dict:
    """The picture of image-to-video: the first latent frame is known."""
    mask = torch.ones(1, masks, frames, HEIGHT, WIDTH)
    mask[:, :, :1] = 0
    return {"concat_latent_image": randomly(1, channels, frames, HEIGHT, WIDTH), "concat_mask": mask}


def _first_frame() -> dict:
    """SkyReels: the picture, then nothing, without a mask."""
    image = torch.zeros(1, 16, FRAMES, HEIGHT, WIDTH)
    image[:, :, :1] = randomly(*_PICTURE)
    return {"concat_latent_image": image}


def _keyframe() -> dict:
    """MiniMax H3: the first picture as rows of the packed sequence."""
    return {"minimax_keyframes": [{"resolved_frame_index": 0, "latent": randomly(1, 24, 1, 4, 6)}]}


def _vace(reference: bool = False) -> dict:
    from comfy.latent_formats import Wan21

    frames, mask = randomly(1, 32, FRAMES, HEIGHT, WIDTH), torch.ones(1, 64, FRAMES, HEIGHT, WIDTH)
    if reference:
        front = torch.cat([randomly(*_PICTURE), Wan21().process_out(torch.zeros(_PICTURE))], 1)
        frames, mask = torch.cat([front, frames], 2), torch.cat([torch.zeros_like(mask[:, :, :1]), mask], 2)
    return {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [1.0]}


_PICTURE = (1, 16, 1, HEIGHT, WIDTH)
_VIDEO = (1, 16, FRAMES, HEIGHT, WIDTH)
_REFERENCE = {"reference_latents": [_PICTURE]}


def _also(*parts: Callable[[], dict], **shapes) -> Callable[[], dict]:
    """Conditioning of several parts and of random tensors of these shapes."""

    def made(shape):
        return [randomly(*one) for one in shape] if isinstance(shape, list) else randomly(*shape)

    return lambda: {k: v for part in parts for k, v in part().items()} | {k: made(v) for k, v in shapes.items()}


@dataclass(frozen=True)
class Case:
    """One way in which one class is used: a class of `comfy.supported_models`, its configuration, what the conditioning
    carries beside the text, and the latents' channels, frames and cells. `given` frames have a noise mask of 0."""

    config: str
    unet: dict
    extra: Callable[[], dict] = dict
    channels: int = 16
    frames: int = FRAMES
    text: int = 32  # width of the text encoding
    size: tuple[int, int] = (HEIGHT, WIDTH)
    given: tuple[int, ...] = ()
    sound: tuple[int, ...] | None = None  # shape of the stream of sound that is sampled beside the video
    correct: dict | None = None  # what Load DiT knows of a CogVideoX and corrects; None: as the stock loader gives it

    def model(self, dtype: torch.dtype = torch.float32):
        patcher = build(self.config, self.unet, dtype=dtype)
        if self.correct is not None:
            from det_pack.nodes._comfy.loading.cogvideox import Variant, correct

            correct(patcher.model, Variant(**self.correct))
        return patcher

    @property
    def noise_mask(self) -> torch.Tensor | None:
        if not self.given:
            return None
        mask = torch.ones(1, 1, self.frames, 1, 1)
        mask[:, :, list(self.given)] = 0
        return mask

    def source(self) -> dict:
        """The LATENT that training nodes get."""
        return {"samples": self.latents(), **({} if self.noise_mask is None else {"noise_mask": self.noise_mask})}

    def conditioning(self, seed: int = 5) -> list:
        pooled = randomly(1, 48, seed=seed)
        return [[randomly(1, 6, self.text, seed=seed), {"pooled_output": pooled, **self.extra()}]]

    def latents(self, seed: int = 8) -> torch.Tensor:
        return randomly(1, self.channels, self.frames, *self.size, seed=seed)


def _wan(model_type: str = "t2v", **changes) -> dict:
    return {**_WAN, "model_type": model_type, **changes}


_I2V = _wan("i2v", in_dim=36)
_VACE = _wan("vace", vace_layers=1, vace_in_dim=96)
_S2V = _wan("s2v", audio_inject_layers=[0, 2])
_CAMERA = {"camera_conditions": (1, 24, FRAMES, HEIGHT * 8, WIDTH * 8)}
_HUMO = {"audio_embed": (1, FRAMES, 8, 5, 1280)}
_SOUND = {"audio_embed": (1, 25, 1024, 4 * FRAMES)}
_POSE = {"pose_video_latent": (1, 16, FRAMES, HEIGHT // 2, WIDTH // 2)}
_IMAGE_REFINER = _HUNYUAN | dict(in_channels=128, out_channels=64, patch_size=[1, 1, 1], vec_in_dim=None)
_IMAGE = _HUNYUAN | dict(in_channels=64, out_channels=64, patch_size=[1, 1], axes_dim=[64, 64], vec_in_dim=None)
_LTX_SIZES = dict(channels=128, size=(4, 6))
_H3_SIZES = dict(channels=24, size=(4, 6), frames=7, text=40)
_LEARNED = dict(
    num_attention_heads=3,
    in_channels=32,
    use_learned_positional_embeddings=True,
    sample_height=HEIGHT,
    sample_width=WIDTH,
)
_KANDINSKY = dict(
    image_model="kandinsky5",
    model_dim=64,
    ff_dim=64,
    in_text_dim=32,
    in_text_dim2=48,
    time_dim=32,
    num_text_blocks=1,
    num_visual_blocks=2,
)
_COSMOS = dict(
    image_model="cosmos",
    max_img_h=240,
    max_img_w=240,
    max_frames=128,
    in_channels=16,
    out_channels=16,
    patch_spatial=2,
    patch_temporal=1,
    model_channels=64,
    num_blocks=2,
    num_heads=1,
    pos_emb_cls="rope3d",
    crossattn_emb_channels=32,
)
_COSMOS2 = _COSMOS | dict(image_model="cosmos_predict2", in_channels=17, model_channels=128)
_ANIMA = _COSMOS | dict(image_model="anima", model_channels=128)
_SVD = dict(
    model_channels=32,
    in_channels=8,
    out_channels=4,
    image_size=32,
    num_res_blocks=[1, 1],
    channel_mult=[1, 1],
    transformer_depth=[1, 0],
    transformer_depth_output=[1, 1, 0, 0],
    transformer_depth_middle=1,
    context_dim=32,
    num_classes="sequential",
    adm_in_channels=48,
    num_head_channels=32,
    use_spatial_transformer=True,
    use_temporal_attention=True,
    use_temporal_resblock=True,
    use_linear_in_transformer=True,
    extra_ff_mix_layer=True,
    merge_strategy="learned_with_images",
    merge_factor=0.0,
    video_kernel_size=[3, 1, 1],
    legacy=False,
)
_SEEDVR2 = dict(
    image_model="seedvr2",
    vid_dim=64,
    txt_in_dim=32,
    heads=1,
    head_dim=64,
    num_layers=2,
    rope_dim=64,
    norm_eps=1e-5,
    mlp_type="swiglu",
)
_MOCHI = dict(
    image_model="mochi_preview",
    patch_size=2,
    in_channels=12,
    hidden_size_x=64,
    hidden_size_y=32,
    depth=2,
    num_heads=1,
    mlp_ratio_x=192,
    mlp_ratio_y=192,
    qk_norm=True,
    qkv_bias=False,
    out_bias=True,
    use_t5=True,
    t5_feat_dim=32,
    t5_token_length=8,
)

CASES = {
    "Wan 2.1 T2V, Wan 2.2 A14B T2V": Case("WAN21_T2V", _wan()),
    "Wan 2.1 I2V": Case("WAN21_I2V", _I2V, _also(_given, partial(_clip, 257))),
    "Wan 2.1 I2V without a picture": Case("WAN21_I2V", _I2V),
    "Wan 2.1 FLF2V": Case("WAN21_I2V", _I2V | dict(flf_pos_embed_token_number=514), _also(_given, partial(_clip, 514))),
    "Wan 2.2 A14B I2V": Case("WAN21_T2V", _wan(in_dim=36), _given),
    "Wan 2.2 A14B I2V without a picture": Case("WAN21_T2V", _wan(in_dim=36)),
    "Wan Fun Control": Case(
        "WAN21_FunControl2V", _wan("i2v", in_dim=48), _also(concat_latent_image=(1, 32, FRAMES, HEIGHT, WIDTH))
    ),
    "Wan Fun Control with a reference": Case(
        "WAN21_FunControl2V", _wan("i2v", in_dim=48, in_dim_ref_conv=16), _also(**_REFERENCE)
    ),
    "Wan 2.2 TI2V 5B": Case("WAN22_T2V", _wan(in_dim=48, out_dim=48), channels=48),
    "Wan 2.2 TI2V 5B, first frame given": Case("WAN22_T2V", _wan(in_dim=48, out_dim=48), channels=48, given=(0,)),
    "Wan 2.2 5B Fun": Case("WAN22_T2V", _wan(in_dim=100, out_dim=48), partial(_given, 48), channels=48),
    "Wan Phantom": Case("WAN21_T2V", _wan(), _also(time_dim_concat=(1, 16, 2, HEIGHT, WIDTH))),
    "Wan Bernini": Case("WAN21_T2V", _wan(), _also(context_latents=[_PICTURE, _VIDEO])),
    "Wan VACE": Case("WAN21_Vace", _VACE),
    "Wan VACE with control": Case("WAN21_Vace", _VACE, _vace),
    "Wan VACE with a reference": Case("WAN21_Vace", _VACE, partial(_vace, True), frames=FRAMES + 1),
    "Wan 2.1 Fun Camera": Case(
        "WAN21_Camera",
        _wan("camera", in_dim=32),
        _also(partial(_clip, 257), **_CAMERA, concat_latent_image=_VIDEO),
    ),
    "Wan 2.2 Fun Camera": Case("WAN22_Camera", _wan("camera_2.2", in_dim=36), _also(_given, **_CAMERA)),
    "Wan HuMo with sound": Case("WAN21_HuMo", _wan("humo", in_dim=36), _also(**_HUMO)),
    "Wan HuMo with sound and a reference": Case("WAN21_HuMo", _wan("humo", in_dim=36), _also(**_HUMO, **_REFERENCE)),
    "Wan S2V": Case("WAN22_S2V", _S2V),
    "Wan S2V with sound": Case("WAN22_S2V", _S2V, _also(**_SOUND)),
    "Wan S2V with sound, reference and motion": Case(
        "WAN22_S2V", _S2V, _also(**_SOUND, **_REFERENCE, reference_motion=(1, 16, 19, HEIGHT, WIDTH))
    ),
    "Wan Animate": Case(
        "WAN22_Animate",
        _wan("animate", in_dim=36),
        _also(partial(_given, frames=FRAMES + 1), partial(_clip, 257), pose_video_latent=_VIDEO),
        frames=FRAMES + 1,
    ),
    "Wan Animate 2": Case("WAN_Animate2", _wan("animate2", in_dim=36), _also(_given, partial(_clip, 257))),
    "Wan causal (Self Forcing)": Case("WAN21_CausalAR_T2V", _wan()),
    "Wan FlowRVS": Case("WAN21_FlowRVS", _wan("flow_rvs")),
    "Wan SCAIL": Case("WAN21_SCAIL", _wan("scail", in_dim=20)),
    "Wan SCAIL with a pose and a reference": Case(
        "WAN21_SCAIL", _wan("scail", in_dim=20), _also(partial(_clip, 257), **_POSE, **_REFERENCE)
    ),
    "Wan SCAIL-2": Case("WAN21_SCAIL2", _wan("scail2", in_dim=20)),
    "Wan SCAIL-2 with a pose and a reference": Case(
        "WAN21_SCAIL2", _wan("scail2", in_dim=20), _also(partial(_clip, 257), **_POSE, **_REFERENCE)
    ),
    "WanDancer with sound": Case(
        "WAN22_WanDancer",
        _wan("wandancer", in_dim=36, audio_inject_layers=[0, 2]),
        _also(_given, partial(_clip, 257), audio_embed=(1, 12, 35)),
    ),
    "HunyuanVideo": Case("HunyuanVideo", _HUNYUAN),
    "HunyuanVideo I2V": Case("HunyuanVideoI2V", _HUNYUAN | dict(in_channels=33), partial(_given, masks=1)),
    "HunyuanVideo I2V without a picture": Case("HunyuanVideoI2V", _HUNYUAN | dict(in_channels=33)),
    "HunyuanVideo I2V v2": Case("HunyuanVideo", _HUNYUAN, lambda: {"guiding_frame_index": 0}),
    "SkyReels I2V": Case("HunyuanVideoSkyreelsI2V", _HUNYUAN | dict(in_channels=32), _first_frame),
    "HunyuanVideo with a reference": Case("HunyuanVideo", _HUNYUAN, _also(ref_latent=_PICTURE)),
    "HunyuanVideo 1.5": Case("HunyuanVideo15", _HUNYUAN15, channels=32),
    "HunyuanVideo 1.5 I2V": Case(
        "HunyuanVideo15", _HUNYUAN15, _also(partial(_given, 32, masks=1), _siglip), channels=32
    ),
    "HunyuanVideo 1.5, step-distilled": Case("HunyuanVideo15", _HUNYUAN15 | dict(meanflow=True), channels=32),
    "HunyuanVideo 1.5 super-resolution": Case(
        "HunyuanVideo15_SR_Distilled", _HUNYUAN15 | dict(in_channels=98, meanflow=True), channels=32
    ),
    "HunyuanImage 2.1 refiner": Case("HunyuanImage21Refiner", _IMAGE_REFINER, channels=64),
    "HunyuanImage 2.1": Case("HunyuanImage21", _IMAGE, channels=64),
    "LTX-Video": Case("LTXV", _LTX, _also(attention_mask=(1, 6)), **_LTX_SIZES),
    "LTX-Video, first frame given": Case("LTXV", _LTX, _also(attention_mask=(1, 6)), given=(0,), **_LTX_SIZES),
    "LTX-Video with guides": Case(
        "LTXV",
        _LTX,
        _also(attention_mask=(1, 6), keyframe_idxs=(1, 3, 24, 2)),
        frames=FRAMES + 1,
        given=(FRAMES,),
        **_LTX_SIZES,
    ),
    "LTX-2": Case("LTXAV", LTXAV, text=48, **_LTX_SIZES),
    "LTX-2 with sound": Case("LTXAV", LTXAV, text=48, sound=(1, 8, 10, 16), **_LTX_SIZES),
    "LTX-2.3": Case("LTXAV", LTX23, text=48, **_LTX_SIZES),
    "LTX-2.3 with sound": Case("LTXAV", LTX23, text=48, sound=(1, 8, 10, 16), **_LTX_SIZES),
    "LTX-2.3, first frame given": Case("LTXAV", LTX23, text=48, given=(0,), **_LTX_SIZES),
    "LTX-2.3 with guides": Case(
        "LTXAV", LTX23, _also(keyframe_idxs=(1, 3, 24, 2)), text=48, frames=FRAMES + 1, given=(FRAMES,), **_LTX_SIZES
    ),
    "LTX-2.5": Case("LTXAV", LTX25, text=48, **_LTX_SIZES),
    "LTX-2.5 with sound": Case("LTXAV", LTX25, text=48, sound=(1, 8, 10, 16), **_LTX_SIZES),
    "MiniMax H3 with sound": Case("MiniMaxH3", H3, sound=(1, 32, 2, 37), **_H3_SIZES),
    "MiniMax H3, pruned, with sound": Case(
        "MiniMaxH3", H3 | dict(adaln_curve_grid=9, time_embed_dim=4), sound=(1, 32, 2, 37), **_H3_SIZES
    ),
    "MiniMax H3 with a keyframe and sound": Case("MiniMaxH3", H3, _keyframe, sound=(1, 32, 2, 37), **_H3_SIZES),
    "CogVideoX, loaded by Load Diffusion Model": Case("CogVideoX_T2V", _COG),
    "CogVideoX 5B T2V": Case("CogVideoX_T2V", _COG, correct={}),
    "CogVideoX 2B T2V": Case("CogVideoX_T2V", _COG, correct={"positions": "sincos", "snr_shift": 3.0}),
    "CogVideoX 1.5 T2V": Case("CogVideoX_T2V", _COG | dict(patch_size_t=2), correct={}, frames=4),
    "CogVideoX 5B I2V": Case(
        "CogVideoX_I2V", _COG | _LEARNED, partial(_given, masks=1), correct={"positions": "learned"}
    ),
    "CogVideoX 5B I2V without a picture": Case("CogVideoX_I2V", _COG | dict(in_channels=32), correct={}),
    "CogVideoX 1.5 I2V": Case(
        "CogVideoX_I2V",
        _COG | dict(in_channels=32, patch_size_t=2, ofs_embed_dim=32),
        partial(_given, frames=4, masks=1),
        correct={},
        frames=4,
    ),
    "CogVideoX inpainting (VOID)": Case(
        "CogVideoX_Inpaint",
        _COG | dict(in_channels=48),
        _also(concat_latent_image=(1, 32, FRAMES, HEIGHT, WIDTH)),
        correct={},
    ),
    "Kandinsky 5": Case("Kandinsky5", _KANDINSKY),
    "Cosmos 1": Case("CosmosT2V", _COSMOS),
    "Cosmos 1 I2V": Case("CosmosI2V", _COSMOS | dict(in_channels=17)),
    "Cosmos Predict2": Case("CosmosI2VPredict2", _COSMOS2),
    "Cosmos Predict2 T2I": Case("CosmosT2IPredict2", _COSMOS2 | dict(in_channels=16)),
    "Anima": Case("Anima", _ANIMA),
    "Mochi": Case("GenmoMochi", _MOCHI, channels=12),
    "SeedVR2": Case("SeedVR2", _SEEDVR2),
    "Stable Video Diffusion": Case("SVD_img2vid", _SVD, channels=4),
    "SV3D u": Case("SV3D_u", _SVD, channels=4),
    "SV3D p": Case("SV3D_p", _SVD, channels=4),
}


_WAN_OWN, _HUNYUAN15_OWN = {"freq_dim": 256}, {"mlp_ratio": 4.0}
# The bases that are run in every form of weights: from words, and from a picture where there is such a form. With what
# no file says, and core takes for given.
EVERY_FORM: dict[str, dict] = {
    "Wan 2.1 T2V, Wan 2.2 A14B T2V": _WAN_OWN,
    "Wan 2.2 A14B I2V": _WAN_OWN,
    "Wan 2.2 TI2V 5B": _WAN_OWN,
    "Wan 2.2 TI2V 5B, first frame given": _WAN_OWN,
    "HunyuanVideo": {},
    "HunyuanVideo I2V": {},
    "HunyuanVideo 1.5": _HUNYUAN15_OWN,
    "HunyuanVideo 1.5 I2V": _HUNYUAN15_OWN,
    "LTX-Video": {},
    "LTX-Video, first frame given": {},
    "LTX-2": {},
    "LTX-2.3 with sound": {},
    "LTX-2.3, first frame given": {},
    "LTX-2.5 with sound": {},
    "MiniMax H3 with sound": {},
    "MiniMax H3, pruned, with sound": {},
    "MiniMax H3 with a keyframe and sound": {},
}

"""Embedded model 2 in ComfyUI: its MODEL, CLIP and VAE do what det_core's do, with a first frame and without, and an
adapter is trained and applied on it."""

from __future__ import annotations

import pytest
import torch

SHAPE = (1, 24, 9, 8, 8)
PROMPT = "a red walker and a blue star on a teal checkered background"


@pytest.fixture(scope="module")
def world(pack):
    """(MODEL, CLIP, VAE) of embedded model 2."""
    from det_pack.nodes.load import DeTTinyModel

    return DeTTinyModel.execute("small world").result


@pytest.fixture(scope="module")
def clip(pack):
    """(frames, caption) of a walker that salutes."""
    from det_pack.nodes.tiny_clip import DeTTinyClip

    return DeTTinyClip.execute("salute", "red", "walker", "navy", "checkered", 3).result


def encoded(clip, text: str):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def sampled(model, positive, negative, steps: int = 3, cfg: float = 3.0) -> torch.Tensor:
    import comfy.sample

    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            "ddim",
            "sgm_uniform",
            positive,
            negative,
            torch.zeros(SHAPE),
            disable_pbar=True,
            seed=0,
        ).clone()


def test_it_is_told_apart_from_model_1_and_from_an_inpainting_model(world):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sockets.checked import video_channels
    from det_pack.nodes.load import DeTTinyModel

    assert model_spec(world[0]).name == "embedded-world" and video_channels(world[0]) == 24
    first = DeTTinyModel.execute().result[0]
    assert model_spec(first).name == "embedded" and video_channels(first) == 16


@pytest.mark.parametrize("with_first", [False, True])
def test_it_predicts_what_det_core_predicts(world, clip, with_first):
    """One call of the network at one noise level, with the text and the first frame that ComfyUI's own nodes made."""
    import comfy.model_management as mm
    from comfy_extras.nodes_ip2p import InstructPixToPixConditioning
    from det_pack.det_core.models.embedded.world.base_model import EmbeddedWorld

    model, text, vae = world
    positive = negative = encoded(text, PROMPT)
    if with_first:
        positive, negative, _ = InstructPixToPixConditioning.execute(positive, negative, clip[0][:1], vae).result
    core = EmbeddedWorld()
    cond = core.encode_prompts([PROMPT], clip[0][:1] if with_first else None)
    mm.load_models_gpu([model])
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([500])
    inner = model.model
    image = positive[0][1].get("concat_latent_image")
    given = inner.concat_cond(noise=x, device=x.device, **({} if image is None else {"concat_latent_image": image}))
    with torch.no_grad():
        velocity = inner.diffusion_model(torch.cat([x, given], 1), t.float(), positive[0][0])
        wanted = core.denoiser.predict_velocity(x, t, cond)
    assert (velocity - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("fast", [False, True])
def test_it_computes_in_bfloat16_where_that_is_fast(world, monkeypatch, fast):
    import comfy.model_management as mm
    from det_pack.nodes._comfy.loading import embedded

    monkeypatch.setattr(embedded, "fast_bf16", lambda device: fast)
    model, text, _ = world
    mm.load_models_gpu([model])
    seen = []
    layer = model.model.diffusion_model.blocks[0].q
    hook = layer.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    context = encoded(text, PROMPT)[0][0]
    given = {"c_concat": torch.zeros(SHAPE), "c_crossattn": context}
    with torch.no_grad():
        x0 = model.model.apply_model(torch.zeros(SHAPE), torch.ones(1), **given)
    hook.remove()
    assert seen == [torch.bfloat16 if fast else torch.float32] and x0.dtype == torch.float32


def test_its_codec_keeps_a_clip(world, clip):
    frames = clip[0]
    latents = world[2].encode(frames)
    assert latents.shape == SHAPE and world[2].latent_channels == 24
    error = (world[2].decode(latents)[0] - frames).pow(2).mean()
    assert -10 * error.log10() > 26  # dB; the codec gives 28.9 on average


def test_a_first_frame_is_kept_and_changes_the_video(world, clip):
    from comfy_extras.nodes_ip2p import InstructPixToPixConditioning

    model, text, vae = world
    positive, negative = encoded(text, clip[1]), encoded(text, "")
    plain = vae.decode(sampled(model, positive, negative, 12))[0]
    given = InstructPixToPixConditioning.execute(positive, negative, clip[0][:1], vae).result[:2]
    kept = vae.decode(sampled(model, *given, 12))[0]

    def far(video):
        return (video[0] - clip[0][0]).pow(2).mean().sqrt()

    assert far(kept) < 0.08 and far(kept) < far(plain) / 2


def test_its_clips_are_tracked_by_reading(pack, clip):
    from det_pack.nodes.tiny_clip import DeTTinyClip
    from det_pack.nodes.track import DeTTrackVideo

    two = DeTTinyClip.execute("orbit", "green", "bird", "grey", "checkered", 5).result[0]
    tracks = DeTTrackVideo.execute(two, 20, "auto", 0).result[0]
    assert tracks["track_path"].shape[1] == 20
    moved = (tracks["track_path"][:, :, :] - tracks["track_path"][:1]).norm(dim=-1).amax()
    assert 8 < moved < 25  # px: a bird that rests in the world, before a camera that orbits by 6 to 9 px
    with pytest.raises(ValueError, match="choose the shape walker"):
        DeTTinyClip.execute("salute", "red", "circle", "navy", "plain", 0)


def test_a_motion_is_learned_with_the_sources_first_frame_and_replayed_on_another(world, clip, tmp_path, monkeypatch):
    from comfy_extras.nodes_ip2p import InstructPixToPixConditioning
    from det_pack.nodes._comfy.loading import paths
    from det_pack.nodes.apply import DeTApplyMotionAdapter
    from det_pack.nodes.tiny_clip import DeTTinyClip
    from det_pack.nodes.track import DeTTrackVideo
    from det_pack.nodes.train import DeTTrainMotionAdapter

    model, text, vae = world
    monkeypatch.setattr(paths, "state_path", lambda run: tmp_path / f"{run}.state.safetensors")
    frames, caption = clip
    tracks = DeTTrackVideo.execute(frames, 20, "auto", 0).result[0]
    empty = encoded(text, "")

    def learned(first):
        words = encoded(text, caption)
        if first is not None:
            words = InstructPixToPixConditioning.execute(words, empty, first, vae).result[0]
        numbers = (4, 1e-2, 0.1, 0, "world", "start anew", False, 0)
        with torch.inference_mode():
            return DeTTrainMotionAdapter.execute(
                model, {"samples": vae.encode(frames)}, words, *numbers, tracks, mid_dim=8
            ).args

    adapter, losses = learned(frames[:1])
    assert adapter.keep == [0, 1, 2, 3, 4, 5], "two of eight blocks are dropped"
    other = DeTTinyClip.execute("windmill", "green", "walker", "teal", "checkered", 5).result
    for first in (None, other[0][:1]):  # before anything is learned
        assert learned(first)[1]["loss"][0] > losses["loss"][0], "nothing helps as the source's own first frame does"
    given = InstructPixToPixConditioning.execute(encoded(text, other[1]), empty, other[0][:1], vae).result[:2]
    moved = DeTApplyMotionAdapter.execute(model, adapter, 1.0, -1.0).result[0]
    with_motion, without = (vae.decode(sampled(each, *given, 6))[0] for each in (moved, model))
    assert (with_motion - without).abs().max() > 0.02 and with_motion.shape == (9, 64, 64, 3)

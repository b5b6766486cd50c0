"""Sparse frames: which are drawn, and that a model sees them at the times they have in the whole clip."""

import pytest
import torch
from tiny_dits import build, call_for

from det_core.fym.sparse import sparse_clips, sparse_count, sparse_latents, sparse_sets, still_examples
from det_core.media.frame_map import FrameMap
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import spec_for
from det_core.models.families.positions import token_positions

CODEC = FrameMap((1,), (4,))
FAMILIES = ("cogvideox", "hunyuan_video", "wan")


def rope_seen(family, model, frames, positions):
    """The rotary table (cos, sin), (T, H*W, width), that the blocks of `model` get for this many latent frames."""
    call = call_for(family, model, (frames, 4, 6), batch=1)
    seen = {}
    block = model.get_submodule(spec_for(model).taps[0].input)

    def look(_module, args, kwargs):
        seen["rope"] = kwargs.get("image_rotary_emb") or args[3]

    hook = block.register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad(), token_positions(model, positions):
        call(model)
    hook.remove()
    return torch.stack([t.reshape(call.grid[0], -1, t.shape[-1]) for t in seen["rope"]])


@pytest.mark.parametrize("family", FAMILIES)
def test_scaled_positions_are_a_slice_of_the_whole_clips(family):
    model = build(family)
    whole = rope_seen(family, model, 9, None)
    for picked in ([0, 4, 8], [1, 3, 5, 7], [2, 3, 8]):
        found = rope_seen(family, model, len(picked), [float(p) for p in picked])
        if family == "cogvideox":  # its own table is a linspace, whole numbers but for the last bits
            torch.testing.assert_close(found, whole[:, picked], rtol=0, atol=2e-6)
        else:
            assert torch.equal(found, whole[:, picked])


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_between_frames_turn_only_the_time_channels(family):
    model = build(family)
    whole, found = rope_seen(family, model, 3, None), rope_seen(family, model, 3, [0.0, 1.5, 3.0])
    changed = (whole != found).any(0).any(0).any(0).nonzero().flatten()
    width = {"cogvideox": 4, "hunyuan_video": 4, "wan": 16 - 4 * (16 // 6)}[family]
    assert len(changed) and int(changed.max()) < width
    norms = found[0] ** 2 + found[1] ** 2
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("family", (*FAMILIES, "embedded"))
def test_scale_one_is_bit_identical_and_the_model_comes_back(family):
    if family == "embedded":
        torch.manual_seed(0)
        model = build_transformer(2, 1).eval().requires_grad_(False)
        torch.nn.init.normal_(model.proj_out.weight, std=0.1)
        denoiser = DiffusersDenoiser(model, build_scheduler())
        x, cond = torch.randn(1, 16, 3, 4, 4), {"encoder_hidden_states": torch.randn(1, 8, 64)}

        def run():
            return denoiser.predict_velocity(x, torch.tensor([500]), cond)
    else:
        model = build(family)
        call = call_for(family, model)

        def run():
            return call(model)

    with torch.no_grad():
        plain = run()
        (whole,) = sparse_latents(torch.zeros(1, 4, 3, 2, 2), 3, "stride").all
        with token_positions(model, whole.positions):
            assert torch.equal(plain, run())
        with token_positions(model, [0.0, 4.0, 8.0]):
            assert not torch.equal(plain, run())
        assert torch.equal(plain, run())
        assert not [name for name, module in model.named_modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("size", [(9, 8, 8), (7, 4, 6)])
def test_absolute_positions_are_a_slice_too(size):
    """The embedded model's table is added to the tokens: picked frames get what they have in the whole clip."""
    torch.manual_seed(0)
    model = build_transformer(1, 2).eval()
    frames, height, width = size
    text, video = torch.randn(1, 8, 64), torch.randn(1, frames, 16, height, width)
    picked = [1, 3, 6]
    with torch.no_grad():
        whole = model.patch_embed(text, video)[:, 8:].unflatten(1, (frames, -1))
        seen = {}
        hook = model.patch_embed.register_forward_hook(lambda m, a, out: seen.update(out=out))
        with token_positions(model, [float(p) for p in picked]):
            model(video[:, picked], text, timestep=torch.tensor([3]), return_dict=False)
        hook.remove()
    found = seen["out"][:, 8:].unflatten(1, (3, -1))
    torch.testing.assert_close(found, whole[:, picked], rtol=0, atol=1e-6)
    assert model.patch_embed.use_positional_embeddings


def test_temporal_patches_stand_at_the_time_of_their_first_latent_frame():
    """CogVideoX 1.5 makes one token of two latent frames: positions are given for latent frames all the same."""
    model = build("cogvideox", patch_size_t=2, sample_height=8, sample_width=12)
    whole = rope_seen("cogvideox", model, 12, None)
    found = rope_seen("cogvideox", model, 4, [0.0, 1.0, 8.0, 9.0])
    assert torch.equal(found, whole[:, [0, 4]])


def test_positions_that_do_not_fit_are_refused():
    model = build("wan")
    call = call_for("wan", model, (3, 4, 6))
    with pytest.raises(ValueError, match="2 time steps .*but the video has 3"), token_positions(model, [0.0, 5.0]):
        call(model)
    with pytest.raises(ValueError, match="ltx .* cannot be set"), token_positions(build("ltx"), [0.0, 5.0]):
        pass


@pytest.mark.parametrize("total, count", [(21, 5), (9, 3), (9, 9), (9, 2), (7, 5), (2, 2), (81, 17)])
def test_strided_sets_together_show_every_frame_at_its_own_time(total, count):
    sets = sparse_sets(total, count)
    assert {frame for s in sets for frame in s.frames} == set(range(total))
    for s in sets:
        assert s.positions == tuple(map(float, s.frames)) and len(s.frames) == count
        assert len(set(torch.tensor(s.frames).diff().tolist())) == 1
    if count == total:
        assert len(sets) == 1


def test_how_many_frames_if_nothing_is_said():
    assert [sparse_count(total) for total in (2, 5, 9, 13, 21, 42)] == [2, 3, 5, 7, 11, 21]
    assert [sparse_count(total, 2) for total in (2, 3, 4, 13, 22)] == [2, 2, 4, 8, 12]


def test_the_other_spacings_are_those_of_the_formulas():
    (ends,) = sparse_sets(21, 5, "ends")
    assert ends.frames == (0, 5, 10, 15, 20) and ends.positions == (0, 5, 10, 15, 20)
    for s in sparse_sets(21, 5, "paper"):
        assert s.positions == pytest.approx((0, 4.2, 8.4, 12.6, 16.8))
        full, few = 21, 5  # F/2 + F/F_samp (i - F_samp/2), as the paper writes it
        assert s.positions == pytest.approx([full / 2 + full / few * (i - few / 2) for i in range(few)])


def test_a_clip_shorter_than_the_set_is_refused():
    for total, count in ((4, 5), (1, 2), (9, 1)):
        with pytest.raises(ValueError, match="does not fit a clip"):
            sparse_sets(total, count)
        for spacing in ("random", "stride"):
            with pytest.raises(ValueError, match="does not fit a clip"):
                sparse_latents(torch.zeros(1, 1, total, 1, 1), count, spacing)
    with pytest.raises(ValueError, match="evenly by stride, ends, paper"):
        sparse_sets(9, 3, "random")
    for total, fits in ((8, 4), (3, 2)):
        with pytest.raises(ValueError, match=f"joins 2 latent frames to one token: use {fits} frames, not 3"):
            sparse_latents(torch.zeros(1, 1, total, 1, 1), 3, patch=2)
    with pytest.raises(ValueError, match="4k.1 frames, not 16: ask for 13 or 17"):
        sparse_clips(lambda f: f, torch.zeros(81, 2, 2, 3), 16, CODEC)


def test_latent_sets_hold_the_latents_of_their_frames():
    latents = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 2, 9, 3, 3)
    for example in sparse_latents(latents, 3, "stride").all:
        assert example.latents[0, 0, :, 0, 0].tolist() == list(example.positions)


@pytest.mark.parametrize("total, count, patch", [(9, 5, 1), (21, 11, 1), (3, 2, 1), (12, 6, 2), (13, 6, 2)])
def test_random_frames_are_other_ones_each_time_and_all_in_the_end(total, count, patch):
    latents = torch.arange(float(total)).view(1, 1, total, 1, 1).expand(1, 2, total, 3, 3)
    frames, generator = sparse_latents(latents, count, patch=patch), torch.Generator().manual_seed(0)
    seen = [frames.draw(generator) for _ in range(200)]
    times = [example.latents[0, 0, :, 0, 0].tolist() for example in seen]
    for example, at in zip(seen, times, strict=True):
        assert example.latents.shape == frames.shape == (1, 2, count, 3, 3)
        assert at == sorted(set(at)) and at == list(example.positions or range(count))
        assert all(first % patch == 0 and at[i * patch + 1 : (i + 1) * patch] == [first + 1] * (patch - 1)
                   for i, first in enumerate(at[::patch]))  # fmt: skip
    tokens = total // patch
    assert {t for at in times for t in at} == set(range(tokens * patch))
    shares = [sum(t in at for at in times) / len(times) for t in range(0, tokens * patch, patch)]
    assert max(abs(share - (count // patch) / tokens) for share in shares) < 0.15, "each as often as any other"
    again = [frames.draw(generator) for generator in [torch.Generator().manual_seed(0)] for _ in range(200)]
    assert [e.positions for e in again] == [e.positions for e in seen]


def test_all_frames_at_random_are_the_clip_itself():
    latents = torch.randn(1, 2, 5, 3, 3)
    whole = sparse_latents(latents, 5).draw(torch.Generator())
    assert whole.positions is None and torch.equal(whole.latents, latents)


def test_pixel_sets_are_encoded_as_clips_of_their_own():
    """81 frames to 17 with a 4x causal VAE: 5 latent frames whose positions are 4-5 latent frames apart."""

    def encode(frames):
        assert len(frames) == 17
        return frames[::4, 0, 0, 0].view(1, 1, -1, 1, 1)

    frames = torch.arange(81.0).view(81, 1, 1, 1).expand(81, 2, 2, 3)
    examples = sparse_clips(encode, frames, 17, CODEC)
    assert len(examples.all) == 4
    for example in examples.all:
        assert example.positions == tuple((example.latents.flatten() / 4).tolist())
    (ends,) = sparse_clips(encode, frames, 17, CODEC, "ends").all
    assert ends.positions == (0, 5, 10, 15, 20)


def test_stills_are_single_frames():
    stills = still_examples(lambda f: f.permute(3, 0, 1, 2)[None], torch.rand(4, 2, 3, 3))
    assert [s.latents.shape for s in stills.all] == [(1, 3, 1, 2, 3)] * 4 and stills.all[0].positions is None

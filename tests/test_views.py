"""Parts of a clip: what a view holds, and that a model sees its tokens where they stand in the whole clip."""

import dataclasses

import pytest
import torch
from tiny_dits import build, call_for

from det_core.media.frame_map import FrameMap
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import spec_for
from det_core.models.families.positions import token_positions
from det_core.tracking.tracks import Tracks
from det_core.training.views import scaled_frames, training_views


def rotary_seen(family, model, latent, positions):
    """The rotary tables that the blocks of `model` get, (2, T, H, W, width)."""
    call, seen = call_for(family, model, latent, batch=1), {}
    block = model.get_submodule(spec_for(model).taps[0].input)

    def look(_module, args, kwargs):
        seen["rope"] = kwargs.get("image_rotary_emb") or args[3]

    hook = block.register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad(), token_positions(model, *positions):
        call(model)
    hook.remove()
    return torch.stack([t.reshape(*call.grid, t.shape[-1]) for t in seen["rope"]])


@pytest.mark.parametrize("family", ["wan", "hunyuan_video"])
def test_whole_positions_are_a_slice_of_the_whole_clips_table(family):
    model = build(family)
    whole = rotary_seen(family, model, (5, 8, 12), (None, None, None))
    # Tokens are 2x2 cells: cells 2j and 2j + 1 are token j.
    found = rotary_seen(family, model, (2, 4, 6), ((1, 4), (2, 3, 6, 7), (0, 1, 4, 5, 10, 11)))
    assert torch.equal(found, whole[:, [1, 4]][:, :, [1, 3]][:, :, :, [0, 2, 5]])


def test_cogvideox_sets_times_and_stretches_its_picture_by_itself():
    model = build("cogvideox")
    own = rotary_seen("cogvideox", model, (2, 4, 6), (None, None, None))
    found = rotary_seen("cogvideox", model, (2, 4, 6), ((3, 7), (1, 3, 5, 7), range(6)))
    whole = rotary_seen("cogvideox", model, (9, 4, 6), (None, None, None))
    torch.testing.assert_close(found, whole[:, [3, 7]], rtol=0, atol=2e-6)
    assert torch.equal(found[..., 4:], own[..., 4:])


def embedded_table(model, latent, positions):
    """What the embedded DiT's patch embedding adds to tokens of zeros: (T, H, W, channels)."""
    denoiser, seen = DiffusersDenoiser(model, build_scheduler()), {}
    hook = model.patch_embed.register_forward_hook(lambda _m, _a, out: seen.update(out=out))
    cond = {"encoder_hidden_states": torch.zeros(1, 8, 64)}
    with torch.no_grad(), denoiser.at_positions(*positions):
        denoiser.predict_velocity(torch.zeros(1, 16, *latent), torch.tensor([500]), cond)
    hook.remove()
    return seen["out"][0, 8:].reshape(*latent, -1)


def test_the_embedded_models_table_is_placed_on_all_three_axes():
    torch.manual_seed(0)
    model = build_transformer(1, 1).eval()
    whole = embedded_table(model, (9, 8, 8), (None, None, None))
    found = embedded_table(model, (3, 2, 4), ((2, 4, 5), (1, 6), (0, 3, 4, 7)))
    torch.testing.assert_close(found, whole[[2, 4, 5]][:, [1, 6]][:, :, [0, 3, 4, 7]])
    between = embedded_table(model, (9, 8, 8), (None, [i + 0.5 for i in range(8)], None))
    rows = (between - whole).abs().amax((0, 1, 2)) > 1e-6
    assert rows.any() and not rows[: rows.numel() // 4 + 3 * rows.numel() // 8].any(), "only the rows' channels change"


def test_a_call_of_another_size_is_refused_and_the_model_comes_back():
    model = build("wan")
    with pytest.raises(ValueError, match="positions for 3 rows of tokens, but the video has 2"):
        rotary_seen("wan", model, (2, 4, 6), (None, range(6), None))
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_a_model_whose_positions_cannot_be_set_says_so():
    with pytest.raises(ValueError, match=r"token positions of ltx .* cannot be set"):
        with token_positions(build("ltx"), times=(0, 2)):
            pass


def test_windows_carry_their_frames_tracks_and_times():
    spec = spec_for(build("cogvideox"))
    latents = torch.arange(5.0)[None, None, :, None, None].expand(1, 4, 5, 4, 6)
    points = torch.arange(17.0)[None, :, None].expand(2, 17, 2) / 17
    tracks = Tracks(points, torch.ones(2, 17, dtype=torch.bool))
    views = training_views(spec, latents, tracks, frame_window=3)
    assert [view.times for view in views] == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]
    for start, view in enumerate(views):
        assert view.latents[0, 0, :, 0, 0].tolist() == [start, start + 1, start + 2]
        cells, visible = view.tracks.to_grid(3, 1, 1)  # latent frame j holds video frame 4j
        assert visible.all() and torch.allclose(cells[0, :, 0] * 17, 4.0 * torch.arange(start, start + 3))


def test_tracks_are_read_where_an_uneven_codec_says():
    """MiniMax H3's 22 frames become 7 latent ones of 1, 4, 4, 4, 4, 1, 4 frames."""
    spec = dataclasses.replace(spec_for(build("cogvideox")), frames=FrameMap((1, 4), (4, 4, 4, 1, 4)))
    tracks = Tracks(torch.arange(22.0)[None, :, None].expand(1, 22, 2) / 22, torch.ones(1, 22, dtype=torch.bool))
    (view,) = training_views(spec, torch.zeros(1, 4, 7, 4, 6), tracks)
    cells, _ = view.tracks.to_grid(7, 1, 1)
    torch.testing.assert_close(cells[0, :, 0] * 22, torch.tensor([0.0, 4, 8, 12, 16, 17, 21]))


def test_a_reduced_clip_covers_the_same_picture():
    model = build("wan")
    spec = spec_for(model)
    (view,) = training_views(spec, torch.zeros(1, 4, 3, 4, 6), None, scale=0.5)
    assert view.rows == (0.5, 2.5, 4.5, 6.5) and view.columns[-1] == 10.5
    assert view.times is None and view.tracks is None
    (view,) = training_views(spec, torch.zeros(1, 4, 3, 4, 6), None, scale=0.7)
    assert view.rows[0] + view.rows[-1] == pytest.approx(4 / 0.7 - 1), "a full size that is no whole number of cells"
    assert view.columns[0] + view.columns[-1] == pytest.approx(6 / 0.7 - 1)
    (view,) = training_views(spec, torch.zeros(1, 4, 3, 44, 6), None, scale=0.75, full_size=(60, 8))
    assert view.rows[-1] == pytest.approx(43.5 * 60 / 44 - 0.5), "480 rows of pixels become 352, not 360"
    assert view.rows[0] + view.rows[-1] == pytest.approx(59) and view.columns[-1] == pytest.approx(5.5 / 0.75 - 0.5)
    frames = torch.rand(2, 128, 192, 3)
    small = scaled_frames(frames, spec, 0.5)
    assert small.shape == (2, 64, 96, 3)
    torch.testing.assert_close(small.mean((1, 2)), frames.mean((1, 2)), rtol=0, atol=5e-3)
    dots = torch.zeros(1, 128, 192, 3)
    dots[:, ::4, ::4] = 1
    quarter = scaled_frames(dots, spec, 0.25)
    assert quarter.mean().item() == pytest.approx(1 / 16, rel=0.05), "no pixel is passed over"
    assert scaled_frames(frames, spec, 0.01).shape[1:3] == (16, 16), "never smaller than a token"
    assert scaled_frames(frames, spec, 1.0) is frames

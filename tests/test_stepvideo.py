"""Step-Video-T2V's modules against their golden file, the published shapes, and what must hold whatever the weights."""

from __future__ import annotations

import pytest
import stepvideo_golden as small
import torch

from det_core.models.stepvideo.rotary import axis_angles, rotary_table, rotate
from det_core.models.stepvideo.step_llm import StepLLM, distance_bias, slopes
from det_core.models.stepvideo.tiles import tiled
from det_core.models.stepvideo.transformer import StepVideoTransformer
from det_core.models.stepvideo.vae import (
    CHUNK,
    StepVideoVAE,
    file_keys,
    latent_frames,
    pixel_frames,
    shuffle,
    unshuffle,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def computed() -> dict[str, torch.Tensor]:
    return small.computed()


@pytest.mark.parametrize(
    ("name", "bound"), [("transformer", 5e-6), ("moments", 5e-6), ("pixels", 2e-5), ("step_llm", 1e-5)]
)
def test_module_meets_its_golden_vector(computed, name, bound):
    assert (computed[name] - small.golden()[name]).abs().max() < bound


@pytest.mark.parametrize(
    ("part", "module", "parameters"),
    [
        ("transformer", StepVideoTransformer, 29_342_478_400),
        ("vae", StepVideoVAE, 498_818_819),
        ("step_llm", StepLLM, 19_579_600_896),
    ],
)
def test_full_size_has_the_published_names_and_shapes(part, module, parameters):
    state = module(device="meta").state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == small.published_shapes(part)
    assert sum(tensor.numel() for tensor in state.values()) == parameters


class TestTransformer:
    def test_bfloat16_stays_near_float32(self):
        inputs = [x.bfloat16() if x.is_floating_point() else x for x in small.transformer_inputs()]
        with torch.no_grad():
            out = small.transformer().bfloat16()(*inputs)
        assert (out.float() - small.golden()["transformer"]).abs().max() < 0.1  # values reach 3

    def test_text_cut_to_its_valid_tokens_needs_no_mask(self):
        latents, time, llm, clip, mask = small.transformer_inputs()
        model = small.transformer()
        with torch.no_grad():
            together = model(latents, time, llm, clip, mask)
            alone = model(latents[:1], time[:1], llm[:1, :3], clip[:1])
        assert (together[:1] - alone).abs().max() < 5e-6

    def test_what_the_mask_hides_does_not_matter(self):
        latents, time, llm, clip, mask = small.transformer_inputs()
        changed = llm.clone()
        changed[0, 3:] = 100.0
        model = small.transformer()
        with torch.no_grad():
            assert torch.equal(model(latents, time, llm, clip, mask)[0], model(latents, time, changed, clip, mask)[0])

    def test_positions_of_a_part_give_the_table_rows_of_the_whole(self):
        whole = rotary_table((range(6), range(4), range(5)), 16)[0].view(6, 4, 5, 16)
        part = rotary_table(([1, 4], range(4), [0, 2, 4]), 16)[0].view(2, 4, 3, 16)
        assert torch.equal(part, whole[[1, 4]][:, :, [0, 2, 4]])

    def test_attention_sees_distances_alone(self):
        """Rotary positions: a score depends on where two tokens stand to each other, not on where both are."""
        q, k = torch.randn(2, 1, 1, 1, 128, dtype=torch.float64)
        at = [
            rotary_table(([t], [y], [x]), 128).double()
            for t, y, x in ((3, 5, 2), (1, 6, 0), (13, 25, 12), (11, 26, 10))
        ]
        near, far = ((rotate(q, a) * rotate(k, b)).sum() for a, b in (at[:2], at[2:]))
        assert abs(near - far) < 1e-4 * q.norm() * k.norm()

    def test_the_angle_stays_float32(self):
        """The reference rounds it to bfloat16, which costs up to 0.1 of a cosine within 64 positions."""
        angles = axis_angles(torch.arange(64), 64)
        assert angles.dtype == torch.float32
        assert 0.05 < (angles.cos() - angles.bfloat16().float().cos()).abs().max() < 0.2


class TestVAE:
    def test_unshuffle_and_shuffle_are_inverses(self):
        x = torch.randn(2, 3, 5, 4, 6)
        assert torch.equal(shuffle(unshuffle(x)), x)

    @pytest.mark.parametrize("changed", [0, 1, 8, 9, 16])
    def test_latent_frame_j_reads_frames_up_to_8_j(self, changed):
        codec, pixels = small.vae(), small.pixels()[:, :, :CHUNK]
        other = pixels.clone()
        other[:, :, changed] += 0.5
        moved = [bool((codec.encode(pixels) - codec.encode(other))[:, :, j].abs().max() > 0) for j in range(3)]
        assert moved == [changed <= 8 * j for j in range(3)]

    def test_chunks_are_coded_each_by_itself(self):
        codec, pixels = small.vae(), small.pixels()
        assert torch.equal(codec.encode(pixels)[:, :, 3:], codec.encode(pixels[:, :, CHUNK:]))

    def test_borders_of_chunks_are_mixed_one_after_the_other(self):
        codec, latents = small.vae(), small.latents()
        a, b = (codec.decode(part) for part in latents.split(3, dim=2))
        after = 0.6 * b[:, :, 0] + 0.4 * a[:, :, -1]
        before = 0.6 * a[:, :, -1] + 0.4 * after
        mixed = codec.decode(latents)[:, :, CHUNK - 1 : CHUNK + 1]
        assert (mixed - torch.stack([before, after], dim=2)).abs().max() < 1e-5

    def test_a_picture_is_one_latent_frame(self):
        codec = small.vae()
        latent = codec.encode(small.pixels()[:, :, :1])
        assert latent.shape[2] == 1 and codec.decode(latent).shape[2] == 1

    @pytest.mark.parametrize(("frames", "nearest"), [(49, "34 or 51"), (50, "34 or 51"), (16, "17"), (20, "17 or 34")])
    def test_other_lengths_are_refused_with_the_nearest_ones(self, frames, nearest):
        with pytest.raises(ValueError, match=f"17k frames, not {frames}: ask for {nearest} frames$"):
            latent_frames(frames)

    def test_latents_of_no_whole_chunk_are_refused(self):
        with pytest.raises(ValueError, match="chunks of 3 latent frames"):
            pixel_frames(4)
        assert [pixel_frames(latent_frames(n)) for n in (1, 17, 51, 204)] == [1, 17, 51, 204]

    def test_sizes_that_are_no_multiple_of_a_cell_are_refused(self):
        with pytest.raises(ValueError, match="got 40x16: crop to multiples of 16"):
            small.vae().encode(torch.zeros(1, 3, 17, 16, 40))

    def test_published_file_keys(self):
        module = small.vae().state_dict()
        in_file = {name.replace("decoder.conv_out.conv.", "decoder.conv_out."): t for name, t in module.items()}
        assert file_keys(in_file).keys() == module.keys() == file_keys(module).keys()

    def test_version_1_is_refused(self):
        with pytest.raises(ValueError, match="not version 2 .* vae/vae_v2.safetensors"):
            file_keys({"decoder.conv_in.weight": torch.zeros(1)})


class TestTiles:
    @pytest.mark.parametrize("tile", [(2, 3), (3, 2), (4, 5), (9, 9)])
    def test_a_function_of_single_cells_is_not_changed(self, tile):
        x = torch.randn(1, 2, 3, 5, 7)
        grown = tiled(lambda part: part.repeat_interleave(4, -1).repeat_interleave(4, -2), x, tile, 1, step=1, scale=4)
        assert (grown - x.repeat_interleave(4, -1).repeat_interleave(4, -2)).abs().max() < 1e-6

    def test_one_tile_is_the_whole(self):
        codec, latents = small.vae(), small.latents()
        assert torch.equal(codec.decode_tiled(latents), codec.decode(latents))

    def test_tiled_coding_has_the_shapes_of_the_whole(self):
        codec = small.vae()
        pixels = torch.rand(1, 3, 17, 48, 64)
        latents = codec.encode_tiled(pixels, tile_x=32, tile_y=32, overlap=16)
        assert latents.shape == codec.encode(pixels).shape
        assert codec.decode_tiled(latents, tile_x=2, tile_y=2, overlap=1).shape == pixels.shape


class TestStepLLM:
    def test_later_tokens_do_not_matter(self):
        model, tokens = small.step_llm(), small.tokens()
        other = tokens.clone()
        other[:, 8:] = 2
        assert (model(tokens)[:, :8] - model(other)[:, :8]).abs().max() < 1e-6

    def test_slopes_go_on_between_the_powers_of_two(self):
        assert torch.equal(slopes(8), 2.0 ** -torch.arange(1.0, 9))
        assert torch.equal(slopes(12)[8:], 2.0 ** -torch.tensor([0.5, 1.5, 2.5, 3.5]))

    def test_bias_falls_with_the_root_of_the_distance(self):
        bias = distance_bias(8, 5)
        assert bias[0, 4].tolist() == pytest.approx([-1.0, -(3**0.5) / 2, -(2**0.5) / 2, -0.5, 0.0])
        assert torch.isinf(bias[0, 1, 2:]).all()

"""HunyuanVideo 1.5, LTX-2, MiniMax H3 as diffusers has them: trained, dropped, placed, read through a denoiser."""

import copy

import pytest
import torch
from tiny_dits import LATENT_CHANNELS, TEXT_LENGTH, TEXT_WIDTH, build

from det_core.adapter.motion_adapter import MotionAdapter
from det_core.fym.classify import classify_heads
from det_core.fym.sparse import Example, Examples, sparse_latents
from det_core.fym.train import LoRAConfig, group_lora, train_lora
from det_core.lora.file import load_lora, save_lora
from det_core.models.compute.checkpointing import POLICIES
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families import spec_for
from det_core.models.sample import sample
from det_core.training.loop import TrainConfig, train_motion_adapter

FAMILIES = ("hunyuan_video15", "ltx2", "minimax_h3")
SIZES = (5, 4, 6)


def text(family: str, seed: int = 3) -> dict[str, torch.Tensor]:
    words = torch.randn(1, TEXT_LENGTH, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    cond = {"encoder_hidden_states": words}
    if family == "ltx2":
        cond["audio_encoder_hidden_states"] = words.flip(1)
    if family == "hunyuan_video15":
        masks = {f"encoder_attention_mask{end}": torch.ones(1, TEXT_LENGTH) for end in ("", "_2")}
        cond |= {"encoder_hidden_states_2": words.flip(1), **masks}
    return cond


def clip(family: str, frames: int = SIZES[0], seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, LATENT_CHANNELS[family], frames, *SIZES[1:], generator=generator)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def denoiser(family):
    return DiffusersDenoiser(build(family, blocks=3))


def answer(denoiser, x: torch.Tensor, **changes) -> torch.Tensor:
    """The velocity at time 400."""
    with torch.no_grad():
        return denoiser.predict_velocity(x, torch.full((len(x),), 400.0), text(denoiser.spec.name) | changes)


def test_a_cell_of_the_latents_is_one_token_at_its_place(family, denoiser):
    """Frame by frame, row by row; the text stands beside the video where the spec says."""
    tap, spec = denoiser.transformer.get_submodule(denoiser.spec.taps[0].input), denoiser.spec
    seen = []
    tap.register_forward_pre_hook(lambda _m, args, kwargs: seen.append((*args, *kwargs.values())[0]), with_kwargs=True)
    x = clip(family)
    cells = [(0, 0, 0), (1, 2, 5), (4, 3, 0)]
    answer(denoiser, x)
    for cell in cells:
        changed = x.clone()
        changed[(slice(None), slice(None), *cell)] += 1
        answer(denoiser, changed)
    plain, *others = (one[0, one.shape[1] - plain_tokens(spec) :] for one in seen)
    _, height, width = spec.grid(x.shape)
    for (frame, row, column), found in zip(cells, others, strict=True):
        place = (frame * height + row // spec.patch[1]) * width + column // spec.patch[2]
        assert (found != plain).any(-1).nonzero().flatten().tolist() == [place]


def plain_tokens(spec) -> int:
    time, height, width = spec.grid(SIZES)
    return time * height * width


def test_every_block_learns_alike_under_every_checkpointing_and_the_base_stays(family, denoiser):
    weights = copy.deepcopy(denoiser.transformer.state_dict())
    runs = {}
    for policy in POLICIES:
        config = TrainConfig(steps=6, lr=1e-2, mid_dim=8, kernel_size=3, checkpoint=policy, seed=1)
        runs[policy] = train_motion_adapter(denoiser, clip(family), text(family), None, config)
    losses = [run.losses["total"] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] == pytest.approx(losses[2], rel=1e-4)
    assert all(kernel.up.weight.abs().max() > 0 for kernel in runs["none"].adapter.blocks.values())
    assert all(torch.equal(weights[name], value) for name, value in denoiser.transformer.state_dict().items())


def test_a_new_adapter_samples_the_very_same_and_a_dropped_one_too(family, denoiser):
    adapter = MotionAdapter.create(denoiser.spec, 8, 3, generator=torch.Generator().manual_seed(0))
    noise = clip(family, seed=9)

    def made(**how) -> torch.Tensor:
        return sample(denoiser, text(family), text(family, 4), noise, steps=2, cfg=2.0, **how)

    plain = made()
    assert torch.equal(made(adapter=adapter), plain) and torch.isfinite(plain).all() and plain.std() > 0.1
    for kernel in adapter.requires_grad_(False).blocks.values():
        kernel.up.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(made(adapter=adapter, keep=[]), plain)
    whole, part = made(adapter=adapter, keep=[0, 1, 2]), made(adapter=adapter, keep=[0])
    assert (
        (whole - plain).abs().max() > 1e-2 and (part - plain).abs().max() > 1e-2 and (part - whole).abs().max() > 1e-2
    )


def test_follow_your_motion_tells_heads_and_learns_on_them(family, denoiser, tmp_path):
    transformer, x, cond = denoiser.transformer, clip(family), text(family)
    heads = classify_heads(denoiser, x, cond, draws=1, seed=3)
    assert heads.spatial.shape == (3, 2) and heads.spatial.std() > 1e-3
    loras = {}
    for stage in ("spatial", "temporal"):
        config = LoRAConfig.for_stage(denoiser.spec, stage, steps=3, rank=2, lr=1e-2)
        loras[stage] = group_lora(transformer, heads, stage, config)
        stills = Examples([Example(x[:, :, :1])])
        examples = stills if stage == "spatial" else sparse_latents(x, count=3, spacing="random")
        train_lora(
            denoiser, loras[stage], examples, cond, config, frozen=loras["spatial"] if stage != "spatial" else None
        )
        assert max(part.up.abs().max() for part in loras[stage].parts.values()) > 0
    plain = answer(denoiser, x)
    for layout in ("native", "diffusers"):
        save_lora(tmp_path / "lora.safetensors", loras["temporal"], denoiser.spec, layout)
        read = load_lora(tmp_path / "lora.safetensors", denoiser.spec)
        with read.attached_to(transformer):
            again = answer(denoiser, x)
        with loras["temporal"].attached_to(transformer):
            torch.testing.assert_close(answer(denoiser, x), again, rtol=0, atol=1e-5)
        assert (again - plain).abs().max() > 1e-4


def positions_seen(denoiser, frames: int) -> torch.Tensor:
    """The rotary table that attention of the video's tokens gets, (frames, ...): cosines and sines."""
    seen = []
    tap = denoiser.transformer.get_submodule(denoiser.spec.taps[0].input)

    def look(_module, args, kwargs):
        tables = [v for v in (*args, *kwargs.values()) if isinstance(v, tuple)][0]
        axis = {"hunyuan_video15": 0, "ltx2": 2, "minimax_h3": 0}[denoiser.spec.name]
        tables = [table.movedim(axis, 0) for table in tables]
        count = plain_tokens(denoiser.spec) // SIZES[0] * frames
        seen.append(torch.stack([table[-count:].unflatten(0, (frames, -1)) for table in tables], 1))

    hook = tap.register_forward_pre_hook(look, with_kwargs=True)
    answer(denoiser, clip(denoiser.spec.name, frames))
    hook.remove()
    return seen[0]


def test_frames_of_a_longer_clip_stand_where_they_stand_in_it(family, denoiser):
    whole = positions_seen(denoiser, 9)
    for picked in ([0, 4, 8], [1, 3, 5, 7], [2, 6]):
        with denoiser.at_positions([float(frame) for frame in picked]):
            assert torch.equal(positions_seen(denoiser, len(picked)), whole[picked])
    assert torch.equal(positions_seen(denoiser, 3), whole[:3]), "the model comes back"
    with denoiser.at_positions([0.0, 0.5]):
        between = positions_seen(denoiser, 2)
        assert torch.equal(between[0], whole[0]) and not torch.equal(between[1], whole[1])
    with denoiser.at_positions([0.0, 1.0]), pytest.raises(ValueError, match="positions for 2 time steps"):
        answer(denoiser, clip(family))


def test_every_video_of_a_batch_has_its_own_time(family, denoiser):
    both = torch.cat([clip(family), clip(family, seed=6)])
    twice = {name: torch.cat([value, value]) for name, value in text(family).items()}
    with torch.no_grad():
        together = denoiser.predict_velocity(both, torch.tensor([900.0, 100.0]), twice)
        apart = [
            denoiser.predict_velocity(both[i : i + 1], torch.tensor([t]), text(family))
            for i, t in ((0, 900.0), (1, 100.0))
        ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=2e-5)


def test_the_sizes_and_versions_that_a_spec_says():
    spec = spec_for(build("hunyuan_video15", blocks=2))
    assert (spec.spatial_compression, spec.prediction, spec.describe()) == (
        16, "flow", "hunyuan_video15 with 2 blocks of 32 channels",
    )  # fmt: skip
    modulated = {"cross_attn_mod": True, "audio_cross_attn_mod": True}
    versions = [
        spec_for(build("ltx2", **changes)).version for changes in ({}, modulated, modulated | {"ff_bias": False})
    ]
    assert versions == ["2.0", "2.3", "2.5"]
    h3 = spec_for(build("minimax_h3"))
    assert (h3.dim, h3.attention_dim, h3.frames.rule) == (32, 48, "17k+5")


def test_the_grid_of_a_packed_sequence_is_that_of_its_last_video():
    """Of the diffusers pipeline's own layouts, keyframes and sound in them."""
    from diffusers.modular_pipelines.minimax_h3.before_denoise import MiniMaxH3PrepareLayoutStep

    from det_core.models.families.minimax_h3 import packed

    model = build("minimax_h3")
    own = packed(model.config, clip("minimax_h3", 7), torch.tensor(400.0), text("minimax_h3")["encoder_hidden_states"])
    family, spec = spec_for(model).family, spec_for(model)
    for anchors in ((), ("first",), ("last",), ("first", "last")):
        for sound in (0, 3):
            theirs = MiniMaxH3PrepareLayoutStep.build_packed_sequence(
                torch.ones(TEXT_LENGTH), 7, *SIZES[1:], sound, (1, 2, 2), 2, 2, 0, anchors
            )
            assert family.call_grid(spec, (), {"position_ids": theirs[0]}) == (7, 2, 3)
            if not anchors and not sound:
                torch.testing.assert_close(own["position_ids"], theirs[0], rtol=0, atol=1e-12)
                assert torch.equal(own["token_tags"], theirs[1].long()) and torch.equal(own["video_indices"], theirs[2])


def test_a_picture_is_given_to_hunyuan_video_15_and_has_to_fit():
    denoiser = DiffusersDenoiser(build("hunyuan_video15"))
    x = clip("hunyuan_video15")
    picture = torch.zeros(1, 5, *SIZES)
    picture[:, :, :1] = 1.0
    plain = answer(denoiser, x)
    assert (answer(denoiser, x, image_latents=picture) - plain).abs().max() > 1e-2
    assert (answer(denoiser, x, image_embeds=torch.ones(1, 4, TEXT_WIDTH)) - plain).abs().max() > 1e-3
    with pytest.raises(
        ValueError, match="image_latents have 2x4x6 cells, but the video has 5x4x6: train on whole clips"
    ):
        answer(denoiser, x, image_latents=picture[:, :, :2])


def test_sizes_that_make_no_whole_patches_of_h3_are_refused():
    with pytest.raises(ValueError, match="latents of 5x3x6 cells do not divide into MiniMax H3's patches"):
        answer(DiffusersDenoiser(build("minimax_h3")), clip("minimax_h3")[:, :, :, :3])

"""The world of embedded model 2: what it draws, what its words say, and that the reader finds the truth again."""

import math

import pytest
import torch

from det_core.models.embedded.corpus import BACKGROUND_COLOURS, PATTERNS, SHAPES, Scene, render_background
from det_core.models.embedded.model import TinyModel
from det_core.models.embedded.train import Trainer
from det_core.models.embedded.world.background import background, seen_at
from det_core.models.embedded.world.corpus import object_coverage, random_clips, render
from det_core.models.embedded.world.model import WorldWords, extended_model, first_frame_channels
from det_core.models.embedded.world.motion import CAMERAS, random_motion
from det_core.models.embedded.world.parts import moving, object_paths
from det_core.models.embedded.world.read_background import camera_error, read_background
from det_core.models.embedded.world.reader import read_world
from det_core.models.embedded.world.scene import KINDS, Thing, World, random_world, world_of
from det_core.models.embedded.world.train import WorldBatches, WorldTrainConfig


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips_of(worlds: list[World], seed: int, cameras: dict[str, float] = CAMERAS):
    motion = random_motion([[thing.kind for thing in world.things] for world in worlds], seeded(seed), cameras)
    return motion, render(worlds, motion)


# -------------------------------------------------------------------------------------------- what is drawn


def test_with_a_camera_at_rest_the_backgrounds_are_model_1s():
    for colour in BACKGROUND_COLOURS:
        for pattern in PATTERNS:
            drawn = background(colour, pattern, torch.zeros(4))
            assert torch.allclose(drawn, render_background(colour, pattern), atol=1e-5), (colour, pattern)


def test_a_pan_moves_the_background_by_its_pixels():
    camera = torch.tensor([5.0, -3.0, 0.0, 0.0])
    still, moved = background("teal", "checkered", torch.zeros(4)), background("teal", "checkered", camera)
    assert torch.allclose(moved[8:50, 10:50], still[11:53, 5:45], atol=1e-5)


def test_a_zoom_keeps_the_middle_and_moves_the_edge():
    camera = torch.tensor([0.0, 0.0, math.log(2), 0.0])
    assert torch.allclose(seen_at(torch.tensor([[32.0, 32.0], [42.0, 32.0]]), camera)[1], torch.tensor([52.0, 32.0]))


def test_captions_name_no_motion_and_parse_back():
    for seed in range(20):
        world = random_world(seeded(seed), 1 + seed % 3, held_out=False)
        assert world_of(world.caption) == world
        assert not set(world.caption.split()) & {*CAMERAS, "moving", "left", "right", "beats", "strides"}
    assert world_of("a dancer on a stage") is None
    assert world_of("a red walker and an orange bird on a teal plain background").things[1] == Thing("orange", "bird")


def test_what_is_held_out_of_training_is_never_drawn_for_it():
    assert not any(random_world(seeded(s), 2, held_out=False).held_out for s in range(50))
    assert World((Thing("red", "circle"),), "navy", "plain").held_out == (
        Scene("red", "circle", "navy", "plain") in Scene.held_out()
    )


def test_the_front_object_covers_the_one_behind():
    world = World((Thing("red", "circle"), Thing("blue", "square")), "teal", "plain")
    motion, _ = clips_of([world], 3, {"rests": 1.0})
    motion.paths[:] = 32.0
    for front, colour in ((0, (0.92, 0.16, 0.14)), (1, (0.22, 0.42, 1.0))):
        motion.order[:] = torch.tensor([1 - front, front])
        assert torch.allclose(render([world], motion)[0, 0, 32, 32], torch.tensor(colour), atol=1e-5)


def test_objects_mostly_stay_inside_and_apart():
    _, motion, _ = random_clips(40, 2, seeded(1))
    assert ((motion.paths > 4) & (motion.paths < 60)).float().mean() > 0.98
    near = (motion.paths[:, 0] - motion.paths[:, 1]).norm(dim=-1) < motion.radius.sum(1) * 0.8
    assert near.any(1).float().mean() < 0.4


def test_limbs_move_a_walker_and_no_shape():
    for kind in KINDS:
        motion, _ = clips_of([World((Thing("red", kind),), "teal", "plain")], 3, {"rests": 1.0})
        drawn = object_coverage([[kind]], motion)
        motion.limbs[:] += 0.4
        moved = (object_coverage([[kind]], motion) - drawn).abs().max() > 0.5
        assert moved == (kind not in SHAPES)


# -------------------------------------------------------------------------------------------- words, the start


def test_words_are_marked_by_the_object_they_belong_to():
    words = WorldWords.extending(TinyModel.load().text, seeded(0))
    one, other = words.encode(
        [
            "a red circle and a blue star on a teal plain background",
            "a blue star and a red circle on a teal plain background",
        ]
    )
    assert not torch.allclose(one[0], other[2])  # "red" first and "red" second
    assert torch.allclose(one[4:], other[4:])  # the background's words are the same
    rows = words.table
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)) * rows.shape[1], atol=1e-3)


def test_the_extended_model_answers_as_model_1_where_that_one_knows_the_answer():
    tiny = TinyModel.load()
    frames = random_clips(6, 1, seeded(0))[2].flatten(0, 1)
    world = extended_model(tiny, frames, seeded(0))
    noisy = torch.randn(1, 24, 9, 8, 8, generator=seeded(1))
    prompt = ["a green star on a teal striped background"]
    t = torch.tensor([700])
    given = first_frame_channels(None, noisy)
    with torch.no_grad():
        seen = torch.cat([noisy, given], 1).transpose(1, 2)
        new = world.transformer(seen, world.text.encode(prompt), t, return_dict=False)[0]
        old = tiny.transformer(noisy[:, :16].transpose(1, 2), tiny.text.encode(prompt), t, return_dict=False)[0]
    assert torch.allclose(new[:, :, :16], old, atol=1e-4)


def test_the_codec_keeps_the_world():
    frames = random_clips(30, 2, seeded(0))[2]
    codec = extended_model(TinyModel.load(), frames[:20].flatten(0, 1), seeded(0)).codec
    error = (codec.decode(codec.encode(frames[20:])) - frames[20:]).pow(2).mean()
    assert -10 * error.log10() > 27
    assert codec.encode(frames[20:]).pow(2).mean((0, 2, 3, 4)).sqrt()[16:].amax() < 1.5


def test_some_clips_are_given_their_own_first_frame():
    config = WorldTrainConfig(image_steps=0, video_batch=12, pool_size=6)
    model = extended_model(TinyModel.load(), random_clips(2, 1, seeded(0))[2].flatten(0, 1), seeded(0))
    batch = WorldBatches(model, config).batch(1, seeded(0))
    shown = batch.given.flatten(1).any(1)
    assert shown.any() and not shown.all()
    assert torch.equal(batch.given[shown][:, :, :1], batch.x0[shown][:, :, :1])
    assert not batch.given[:, :, 1:].any()


@pytest.mark.slow
def test_training_resumes_exactly(tmp_path):
    config = WorldTrainConfig(steps=4, image_steps=2, image_batch=2, video_batch=2, pool_size=6, pool_steps=2)

    def trainer() -> Trainer:
        model = extended_model(TinyModel.load(), random_clips(2, 1, seeded(0))[2].flatten(0, 1), seeded(0))
        return Trainer(model, WorldBatches(model, config), config, "cpu")

    whole, first = trainer(), trainer()
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    torch.save(first.state(), tmp_path / "state.pt")
    second = trainer()
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        second.train_step()
    for a, b in zip(whole.master.parameters(), second.master.parameters(), strict=True):
        assert torch.equal(a, b)


# -------------------------------------------------------------------------------------------- the reader


@pytest.mark.parametrize("camera", ["rests", "pans", "zooms", "rotates", "shakes"])
def test_the_camera_is_found_within_half_a_pixel_a_frame(camera):
    worlds = [
        World((Thing("red", kind),), colour, "checkered") for kind, colour in (("bird", "grey"), ("star", "teal"))
    ]
    motion, frames = clips_of(worlds, 5, {camera: 1.0})
    for clip, true in zip(frames, motion.camera, strict=True):
        ground = read_background(clip)
        error = camera_error(ground.camera, true)
        assert error.diff().abs().max() < 0.5 and error.max() < 1.0
        assert ground.right.all() and ground.pattern == "checkered"


def test_every_background_is_named():
    for index, (colour, pattern) in enumerate((c, p) for c in BACKGROUND_COLOURS for p in PATTERNS):
        if index % 3 == 0:
            _, frames = clips_of([World((Thing("white", "walker"),), colour, pattern)], index)
            ground = read_background(frames[0])
            assert (ground.colour, ground.pattern) == (colour, pattern) and ground.right.all()


def degrees(radians: torch.Tensor) -> torch.Tensor:
    return radians.abs() * 180 / math.pi


@pytest.mark.parametrize("kind", KINDS)
def test_path_kind_and_limbs_of_one_object(kind):
    worlds = [World((Thing("orange", kind),), "navy", pattern) for pattern in ("gradient", "checkered")]
    motion, frames = clips_of(worlds, 8)
    for index, clip in enumerate(frames):
        reading = read_world(clip)
        (thing,) = reading.objects
        assert (reading.counts == 1).all() and thing.colour == "orange"
        assert thing.kinds == [kind] * 9
        assert (thing.path - motion.paths[index, 0]).norm(dim=-1).max() < 1
        limbs = degrees(thing.limbs - motion.limbs[index, 0, :, : thing.limbs.shape[1]])
        assert not limbs.numel() or limbs.max() < 10


def test_two_objects_that_cross_keep_their_paths_and_tell_who_is_in_front():
    world = World((Thing("red", "circle"), Thing("cyan", "star")), "grey", "checkered")
    motion, _ = clips_of([world], 2, {"rests": 1.0})
    s = torch.linspace(0, 1, 9)
    motion.paths[0, 0] = torch.stack([14 + 36 * s, 26 + 0 * s], -1)
    motion.paths[0, 1] = torch.stack([50 - 36 * s, 36 + 0 * s], -1)
    for front in (0, 1):
        motion.order[:] = torch.tensor([1 - front, front])
        reading = read_world(render([world], motion)[0])
        assert (reading.counts == 2).all()
        for index, thing in enumerate(world.things):
            error = (reading.of_colour(thing.colour).path - motion.paths[0, index]).norm(dim=-1)
            assert error.max() < 1
            assert reading.of_colour(thing.colour).kind == thing.kind
        assert reading.in_front == {("red", "cyan") if front == 0 else ("cyan", "red")}


def test_a_clip_without_the_named_object_agrees_in_nothing_else():
    world = World((Thing("red", "circle"),), "grey", "plain")
    _, frames = clips_of([World((Thing("blue", "star"),), "grey", "plain")], 2)
    assert read_world(frames[0]).agreement(world) == {"colour": 0, "shape": 0, "background": 1, "count": 1}


def test_an_object_in_two_pieces_is_not_one():
    world = World((Thing("red", "circle"),), "grey", "plain")
    motion, _ = clips_of([world], 2, {"rests": 1.0})
    motion.paths[:] = torch.tensor([16.0, 16.0])
    frames = render([world], motion)[0]
    frames[:, :, 32:] = frames.flip(2)[:, :, 32:]  # the same circle on the right, too
    assert (read_world(frames, fit=False).counts == 2).all()


def test_a_speck_of_a_colour_is_no_object_to_follow():
    frames = background("navy", "plain", torch.zeros(4)).expand(9, -1, -1, -1).clone()
    for t in range(9):
        frames[t, 20:25, 10 + 3 * t : 15 + 3 * t] = torch.tensor([1.0, 0.0, 0.0])
    reading = read_world(frames)
    assert [bool(one.seen.any()) for one in reading.objects] == [False]
    assert object_paths(reading) is None and moving(reading) == set()

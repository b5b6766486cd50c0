"""Embedded model 2 in the package: a base model with a first frame, a ruler for each thing that moves, its cases."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from det_core.bench.layout import read_case, read_cases
from det_core.bench.methods import Methods, MethodSettings
from det_core.bench.units import Unit
from det_core.bench.world_cases import write_world_cases
from det_core.measure import WorldRuler
from det_core.models.embedded.model import TinyModel
from det_core.models.embedded.world.base_model import EmbeddedWorld
from det_core.models.embedded.world.corpus import random_clips, render
from det_core.models.embedded.world.gate import measure, sample_worlds
from det_core.models.embedded.world.model import WEIGHTS, extended_model
from det_core.models.embedded.world.parts import camera_places, moving, object_paths, read_tracks, rested
from det_core.models.embedded.world.reader import read_world
from det_core.models.embedded.world.scene import Thing, World, random_world, world_of
from det_core.models.embedded.world.unseen import CATEGORIES, unseen_motion
from det_core.models.generate import latent_shape
from det_core.models.sample import sample
from det_core.source import Source
from det_core.tracking.camera import without_camera
from det_core.tracking.tracks import Tracks


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> EmbeddedWorld:
    """Model 1's weights in model 2's form: enough for everything but what it draws."""
    frames = random_clips(6, 1, seeded(0))[2].flatten(0, 1)
    return EmbeddedWorld(tiny=extended_model(TinyModel.load(), frames, seeded(0)))


def unseen_clip(category: str, name: str, kinds: tuple[str, ...], pattern: str = "checkered"):
    colours = ("red", "cyan")[: len(kinds)]
    world = World(tuple(Thing(c, k) for c, k in zip(colours, kinds, strict=True)), "grey", pattern)
    motion = unseen_motion(category, name, list(kinds), seeded(4))
    return world, motion, render([world], motion)[0]


def source_of(frames: torch.Tensor) -> Source:
    tracks = Tracks(torch.full((1, 9, 2), 0.5), torch.ones(1, 9, dtype=torch.bool), "sprite")
    return Source("clip.mp4", "0", 8.0, (frames * 255).byte(), frames, tracks)


def test_a_first_frame_is_seen_by_the_model_and_left_out_is_zeros(model):
    new = model.tiny.transformer.patch_embed.proj.weight.data[:, 24:]
    new.normal_(0, 0.2, generator=seeded(3))  # as after training: what model 1 does not read begins at zero
    frames = random_clips(1, 1, seeded(1))[2][0]
    noise = torch.randn(latent_shape(model, 9, 64, 64), generator=seeded(2))
    assert noise.shape == (1, 24, 9, 8, 8)
    t = torch.tensor([500])
    plain = model.encode_prompts(["a red circle on a teal plain background"])
    given = model.encode_prompts(["a red circle on a teal plain background"], first=frames[:1])
    zeros = {**plain, "first_frame": torch.zeros(1, 24, 1, 8, 8)}
    with torch.no_grad():
        answers = [model.denoiser.predict_velocity(noise, t, cond) for cond in (plain, given, zeros)]
    assert torch.equal(answers[0], answers[2])
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    for times, kept in (((0.0, 3.0, 4.0), True), ((2.0, 3.0, 4.0), False)):  # some frames of the clip
        with torch.no_grad(), model.denoiser.at_positions(times):
            some = [model.denoiser.predict_velocity(noise[:, :, :3], t, cond) for cond in (zeros, given)]
        assert torch.equal(*some) != kept
    new.zero_()


def test_it_is_sampled_with_guidance_and_a_first_frame(model):
    frames = random_clips(1, 1, seeded(1))[2][0]
    cond = model.encode_prompts(["a red circle on a teal plain background"], first=frames[:1])
    uncond = model.encode_prompts([""], first=frames[:1])
    latents = sample(model.denoiser, cond, uncond, torch.randn(1, 24, 9, 8, 8, generator=seeded(2)), steps=2)
    video = model.decode_video(latents)
    assert video.shape == (9, 64, 64, 3) and video.isfinite().all()


def test_the_package_tells_the_two_embedded_models_apart(model):
    assert model.denoiser.spec.name == "embedded-world" == model.name
    assert model.denoiser.spec.frames.latent_frames(9) == 9


@pytest.mark.parametrize(
    ("category", "kinds", "part"),
    [
        ("camera", ("circle",), {"camera"}),
        ("single", ("star",), {"objects"}),
        ("multiple", ("square", "circle"), {"objects"}),
        ("articulated", ("walker",), {"limbs"}),
    ],
)
def test_each_category_moves_its_own_part_and_nothing_else(category, kinds, part):
    ruler = WorldRuler()
    _, _, frames = unseen_clip(category, CATEGORIES[category][0], kinds)
    assert moving(read_world(frames)) == part
    same = ruler.measure(frames, "a red star on a grey checkered background", source_of(frames))
    assert same.motion_fidelity > 0.97
    still = ruler.measure(frames[:1].expand(9, -1, -1, -1), "", source_of(frames))
    assert still.motion_fidelity < 0.75 and still.edit_fidelity is None


def test_an_objects_path_is_told_from_the_cameras():
    world, motion, _ = unseen_clip("single", "heart", ("circle",))
    path = motion.paths.clone()
    camera = torch.zeros(9, 4)
    camera[:, 0] = torch.linspace(0, 12, 9)
    motion.paths[0, 0] = (path[0, 0] - 32) * 0.5 + 26 + camera[:, :2]
    motion.camera[0] = camera
    reading = read_world(render([world], motion)[0])
    assert moving(reading) == {"objects", "camera"}
    wanted = (path[0, 0] - 32) * 0.5 + 26
    assert (object_paths(reading).points[0] * 64 - wanted).norm(dim=-1).max() < 1
    assert (object_paths(reading, still=False).points[0] * 64 - wanted - camera[:, :2]).norm(dim=-1).max() < 1


def test_tracks_minus_the_camera_are_the_subjects_own():
    """What tracking/camera.py removes by homographies is what the world's reader knows: both leave the same path."""
    world, motion, _ = unseen_clip("camera", "roll", ("square",))
    frames = render([world], motion)[0]
    reading = read_world(frames)
    cameras = []
    for dx, dy, log_zoom, angle in reading.ground.camera.tolist():
        scale, cos, sin = math.exp(log_zoom), math.cos(angle), math.sin(angle)
        turn = torch.tensor([[scale * cos, -scale * sin], [scale * sin, scale * cos]])
        middle = torch.tensor([0.5, 0.5])
        shift = middle - turn @ middle + torch.tensor([dx, dy]) / 64
        cameras.append(torch.cat([torch.cat([turn, shift[:, None]], 1), torch.tensor([[0.0, 0.0, 1.0]])]))
    still = without_camera(object_paths(reading, still=False), torch.stack(cameras).double().numpy())
    assert (still.points[0] - still.points[0, :1]).norm(dim=-1).max() * 64 < 1  # the square rests in the world
    own = rested(reading.objects[0].path, reading.ground.camera) / 64
    assert torch.allclose(still.points[0].float(), own, atol=1e-4)


def test_tracks_of_a_clip_follow_objects_and_camera():
    world, motion, frames = unseen_clip("camera", "orbit", ("square",))
    tracks = read_tracks(frames, 60, seeded(0))
    assert len(tracks) == 60
    on_object, on_ground = tracks.points[:30], tracks.points[30:]
    wanted = motion.paths[0, 0] - motion.paths[0, 0, :1]
    assert ((on_object - on_object[:, :1]) * 64 - wanted).norm(dim=-1).max() < 1.5
    seen = (camera_places(read_world(frames)).points - camera_places(read_world(frames)).points[:, :1]) * 64
    assert ((on_ground - on_ground[:, :1]) * 64 - seen.mean(0)).norm(dim=-1).max() < 1.5
    assert read_tracks(torch.rand(9, 64, 64, 3, generator=seeded(0)), 60, seeded(0)) is None


def test_cases_of_the_four_categories_are_written_and_read(tmp_path):
    write_world_cases(tmp_path / "a", 4)
    cases, bad = read_cases(tmp_path / "a")
    assert not bad and [case.name.split("-")[1] for case in cases] == list(CATEGORIES)
    for case in cases:
        source = world_of(case.caption)
        assert source.held_out and len(case.prompts) == 2
        for prompt in map(world_of, case.prompts):
            assert prompt.held_out and len(prompt.things) == len(source.things)
            assert prompt.background != source.background
            assert not {t.colour for t in prompt.things} & {t.colour for t in source.things}


@pytest.mark.slow
def test_the_shipped_weights_are_small_and_draw_what_they_are_told():
    assert WEIGHTS.stat().st_size <= 13_000_000
    generator = seeded(3)
    worlds = [random_world(generator, 1, held_out=True) for _ in range(6)]
    result = measure(list(sample_worlds(EmbeddedWorld(), worlds, seed=3)), worlds)
    assert result["colour"] > 0.8 and result["background"] > 0.9 and result["shape"] > 0.5


def test_the_benchmark_gives_each_video_its_first_frame_and_training_the_sources(tmp_path, model):
    write_world_cases(tmp_path / "data", 2)
    case = read_cases(tmp_path / "data")[0][1]
    assert len(case.first_frames) == len(case.prompts) == 2
    settings = MethodSettings("embedded-world", str(tmp_path), "cpu", steps=2, sample_steps=2, first_frame=True)
    methods, seen = Methods(settings, model), []
    predict = model.denoiser.predict_velocity
    model.denoiser.predict_velocity = lambda *a, **k: (seen.append(a[2]["first_frame"]), predict(*a, **k))[1]
    try:
        outcome = methods(Unit(case, "det", case.prompts[1], 0))
    finally:
        del model.denoiser.predict_velocity
    given = torch.from_numpy(np.array(Image.open(case.first_frames[1]))).float() / 255
    pictures = [methods.source(case).pixels[:1], given[None]]
    wanted = [model.tiny.codec.encode(picture[None]) for picture in pictures]
    for found, latents in zip((seen[0], seen[-1]), wanted, strict=True):
        assert torch.allclose(found[:1], latents, atol=1e-5)
    assert not torch.allclose(*wanted, atol=0.1)
    assert outcome.scores["first_frame_psnr"] < 30 and outcome.scores["motion_fidelity"] is not None


def test_a_missing_first_frame_and_a_model_that_takes_none_are_refused(tmp_path, model):
    write_world_cases(tmp_path / "data", 1)
    folder = tmp_path / "data" / "000-camera-orbit"
    (folder / "first_frames" / "00001.png").unlink()
    with pytest.raises(ValueError, match="1 pictures for 2 prompts"):
        read_case(folder)
    with pytest.raises(ValueError, match="embedded takes no first frame"):
        Methods(MethodSettings("embedded", str(tmp_path), "cpu", first_frame=True))

"""The benchmark on a model: methods, measures, cases of sprites."""

import json
import math
import shutil

import pytest
import torch
from bench_fakes import bench, scores
from small_training import random_embedded

from det_core.bench.layout import read_cases
from det_core.files.reading import read_metadata
from det_core.tracking.tracks import Tracks


@pytest.fixture(scope="module")
def random_model():
    return random_embedded()


@pytest.fixture
def sprites(tmp_path):
    from det_core.bench.sprite_cases import write_sprite_cases

    write_sprite_cases(tmp_path / "sprites", 1)
    return tmp_path / "sprites"


def test_sprite_cases_are_whole_and_reproducible(sprites, tmp_path):
    from det_core.bench.layout import fingerprint
    from det_core.bench.sprite_cases import write_sprite_cases
    from det_core.media.video import read_video
    from det_core.models.embedded.base_model import read_clip, scene_of
    from det_core.models.embedded.corpus import Scene
    from det_core.source import resize_frames

    write_sprite_cases(tmp_path / "again", 2)
    (case,), bad = read_cases(sprites)
    again, _ = read_cases(tmp_path / "again")
    assert bad == [] and fingerprint([case]) == fingerprint(again[:1]) != fingerprint(again[1:])
    source = scene_of(case.caption)
    for prompt in case.prompts:
        wanted = scene_of(prompt)
        assert wanted in Scene.held_out() and wanted.colour != source.colour and wanted.background != source.background
    reading = read_clip(resize_frames(read_video(case.video).frames, 64, 64))
    assert reading.agreement(source)["edit_fidelity"] > 0.9
    path = Tracks.load(case.tracks).points[0] * 64
    assert (path - reading.centres).norm(dim=-1).max() < 2  # pixels


def _config(folder, method) -> dict:
    return json.loads(read_metadata(folder / f"{method}-seed0.safetensors")["config"])


@pytest.mark.slow
def test_methods_train_once_and_give_the_same_numbers_again(random_model, sprites, tmp_path):
    from det_core.bench.methods import NAMES, TRAINED, Methods, MethodSettings

    def build(out):
        return lambda: Methods(MethodSettings("embedded", str(out), "cpu", steps=2, sample_steps=2), random_model)

    every = list(NAMES)
    case = next(sprites.rglob("eval_prompts.txt"))
    case.write_text("\n".join(case.read_text().splitlines()[:2]) + "\n")  # two are enough, and quicker
    first = bench(sprites, tmp_path / "one", build(tmp_path / "one"), every, seeds=[0])
    elsewhere = bench(sprites, tmp_path / "two", build(tmp_path / "two"), ["none", "fym"], seeds=[0])
    assert scores(elsewhere) == [row for row in scores(first) if row[1] in ("none", "fym")] and first.failed == []
    by_method = {method: [r for r in first.results if r["method"] == method] for method in every}
    assert all(r["scores"]["temporal_consistency"] in (0.0, 1.0) for r in by_method["frozen"])  # one frame: all or none
    assert all(r["scores"]["leakage"] in (0.0, None) for r in by_method["none"])
    assert all(r["cost"]["train_s"] > 0 for method in TRAINED for r in by_method[method])
    assert len({r["cost"]["train_s"] for r in by_method["det"]}) == 1  # one training for both prompts
    adapters = sorted(p.name for p in (tmp_path / "one" / "adapters").rglob("*.safetensors"))
    files = [*(f"{method}-seed0" for method in TRAINED), "fym-seed0.spatial"]
    assert adapters == sorted(f"{name}{end}.safetensors" for name in files for end in ("", ".state"))
    own, fast = (_config(tmp_path / "one" / "adapters" / "000-figure_eight", name) for name in ("det", "fast"))
    assert (own["batch"], own["average"], fast["batch"], fast["average"]) == (4, 0.0, 2, 0.95)
    shutil.rmtree(tmp_path / "one" / "units" / "000-figure_eight" / "det")
    stamp = (tmp_path / "one" / "adapters" / "000-figure_eight" / "det-seed0.safetensors").stat().st_mtime_ns
    again = bench(sprites, tmp_path / "one", build(tmp_path / "one"), every, seeds=[0])
    assert scores(again) == scores(first)
    assert (tmp_path / "one" / "adapters" / "000-figure_eight" / "det-seed0.safetensors").stat().st_mtime_ns == stamp


def test_memory_that_cannot_be_asked_for_is_not_0(random_model, sprites, tmp_path, monkeypatch):
    from det_core.bench.methods import Methods, MethodSettings
    from det_core.bench.units import Unit

    monkeypatch.setattr("det_core.bench.methods.peak_mb", lambda _: float("nan"))
    (case,), _ = read_cases(sprites)
    methods = Methods(MethodSettings("embedded", str(tmp_path), "cpu", sample_steps=1), random_model)
    assert math.isnan(methods(Unit(case, "none", case.prompts[0], 0)).cost["peak_mb"])


def test_source_similarity_of_a_sprite_is_the_share_of_frames_that_look_like_the_source():
    from types import SimpleNamespace

    from det_core.bench.measures import SpriteMeasures
    from det_core.models.embedded.corpus import Scene, make_clip

    red, blue = Scene("red", "circle", "navy", "plain"), Scene("blue", "square", "olive", "striped")
    source = make_clip(red, "line", torch.Generator().manual_seed(1))
    new_look = make_clip(blue, "line", torch.Generator().manual_seed(1))
    given = SimpleNamespace(pixels=source.frames, tracks=None)

    def similarity(frames, prompt):
        return SpriteMeasures().measure(frames, prompt, given)[0]["source_similarity"]

    assert similarity(source.frames, blue.caption) == 1.0
    assert similarity(new_look.frames, blue.caption) == 0.0
    blue_circle = Scene("blue", "circle", "navy", "plain")
    recoloured = make_clip(blue_circle, "line", torch.Generator().manual_seed(1)).frames
    part = torch.cat([source.frames[:3], recoloured[3:]])
    assert similarity(part, blue_circle.caption) == pytest.approx(3 / 9)
    assert similarity(source.frames, red.caption) is None  # nothing was to change
    assert similarity(source.frames, "a dog") is None


def test_real_videos_are_measured_with_what_is_there(tmp_path):
    from types import SimpleNamespace

    from det_core.bench.measures import VideoMeasures

    g = torch.Generator().manual_seed(0)
    texture = torch.rand(96, 160, 3, generator=g)
    moving = torch.stack([texture.roll(2 * t, 1)[:, :128] for t in range(6)])
    points = torch.stack([torch.rand(9, generator=g) * 0.4 + 0.2, torch.rand(9, generator=g) * 0.6 + 0.2], -1)
    shift = torch.stack([torch.arange(6) * 2 / 128, torch.zeros(6)], -1)
    tracks = Tracks(points[:, None] + shift, torch.ones(9, 6, dtype=torch.bool), "lk")
    source = SimpleNamespace(pixels=moving, tracks=tracks)
    scores, moved, look = VideoMeasures("cpu", None, None).measure(moving, "a rug", source)
    assert scores["motion_fidelity"] > 0.95 and moved.tracker == "lk" and look is None
    assert scores["edit_fidelity"] is None and scores["source_similarity"] is None
    still = VideoMeasures("cpu", None, None).measure(moving[:1].expand(6, -1, -1, -1), "a rug", source)[0]
    assert still["motion_fidelity"] < 0.6


def test_one_look_at_the_frames_gives_consistency_similarity_and_look():
    from types import SimpleNamespace

    from det_core.bench.measures import VideoMeasures

    class Grey:  # looks: a unit vector whose angle is the frame's grey
        def class_tokens(self, frames):
            angle = frames.mean((1, 2, 3))
            return torch.stack([angle.cos(), angle.sin()], -1)

        def region(self, frames):
            return self.class_tokens(frames.mean(0, keepdim=True))[0]

    greys = torch.tensor([0.1, 0.3, 0.4, 0.9])
    frames = greys[:, None, None, None].expand(4, 32, 32, 3)
    tracks = Tracks(torch.full((2, 4, 2), 0.5), torch.ones(2, 4, dtype=torch.bool), "lk")
    measures = VideoMeasures("cpu", None, None)
    measures.dino = Grey()
    scores, _, look = measures.measure(frames, "a rug", SimpleNamespace(pixels=frames * 0, tracks=tracks))
    steps, first = greys.diff().cos(), (greys - 0.1).cos()
    assert scores["temporal_consistency"] == pytest.approx(100 * steps.mean().item(), abs=1e-3)
    by_code = (first.mean() + torch.cat([first[:1], steps]).mean()) / 2
    assert scores["temporal_consistency_reference_code"] == pytest.approx(100 * by_code.item(), abs=1e-3)
    assert scores["source_similarity"] == pytest.approx(greys.mean().cos().item(), abs=1e-5) and look.shape == (2,)


@pytest.mark.parametrize("made_by", ["user", "cotracker"])
def test_tracks_of_no_tracker_of_this_machine_are_made_anew_for_the_scores(made_by, monkeypatch):
    from types import SimpleNamespace

    from det_core.bench.measures import VideoMeasures

    calls = []

    def track(frames, queries, *, tracker, device, query_frame):
        calls.append((tracker, queries.clone(), query_frame.tolist()))
        seen = torch.ones(3, len(frames), dtype=torch.bool)
        return Tracks(queries[:, None].expand(-1, len(frames), -1), seen, tracker, query_frame)

    monkeypatch.setattr("det_core.tracking.trackers.track", track)
    monkeypatch.setattr("det_core.measure.resolve_tracker", lambda name: "lk")
    points = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0))
    frames = torch.zeros(4, 32, 32, 3)
    source = SimpleNamespace(pixels=frames, tracks=Tracks(points, torch.ones(3, 4), made_by, torch.tensor([0, 3, 2])))
    measures = VideoMeasures("cpu", None, None)
    assert measures.measure(frames, "p", source)[0]["motion_fidelity"] == pytest.approx(1)
    measures.measure(frames, "p", source)
    assert [tracker for tracker, *_ in calls] == ["lk"] * 3  # the source once, each video once
    assert all(torch.equal(places, points[[0, 1, 2], [0, 3, 2]]) for _, places, _ in calls)
    assert all(asked == [0, 3, 2] for *_, asked in calls)  # at the frames in which they were chosen

"""The benchmark on a model: methods, measures, cases of sprites, and the commands."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_fakes import bench, scores
from PIL import Image
from safetensors.torch import load_file
from small_training import random_embedded

from det_core.bench.layout import read_cases
from det_core.cli.main import build_parser
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


def test_tracks_that_came_with_the_data_are_made_anew_for_the_scores(monkeypatch):
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
    source = SimpleNamespace(pixels=frames, tracks=Tracks(points, torch.ones(3, 4), "user", torch.tensor([0, 3, 2])))
    measures = VideoMeasures("cpu", None, None)
    assert measures.measure(frames, "p", source)[0]["motion_fidelity"] == pytest.approx(1)
    measures.measure(frames, "p", source)
    assert [tracker for tracker, *_ in calls] == ["lk"] * 3  # the source once, each video once
    assert all(torch.equal(places, points[[0, 1, 2], [0, 3, 2]]) for _, places, _ in calls)
    assert all(asked == [0, 3, 2] for *_, asked in calls)  # at the frames in which they were chosen


def command(*words):
    args = build_parser().parse_args([str(w) for w in words])
    args.run(args)


def test_the_command_runs_the_embedded_benchmark(random_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("det_core.bench.methods.load_base_model", lambda *_: random_model)
    words = ["bench", "--cases", 1, "--methods", "none,det", "--seeds", 1, "--steps", 1, "--sample-steps", 1]
    command(*words, "--out", tmp_path / "out")
    shown = capsys.readouterr().out
    assert "| det |" in shown and "report.html" in shown
    with pytest.raises(ValueError, match="cases was 1 and is now 2"):
        command(*words[:2], 2, *words[3:], "--out", tmp_path / "out")


@pytest.mark.slow
def test_the_command_killed_at_a_random_moment_ends_with_the_same_numbers(tmp_path):
    words = "bench --cases 1 --methods none,det --seeds 1 --steps 3 --sample-steps 1 --out".split()
    command(*words, tmp_path / "whole")
    killed, seed = tmp_path / "killed", random.randrange(10**6)
    chance = random.Random(seed)
    done, later = chance.randint(0, 5), chance.uniform(0, 0.5)  # of 6 units; seconds
    process = subprocess.Popen(
        [sys.executable, "-m", "det_core", *words, killed],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and sum("result.json" in files for _, _, files in os.walk(killed)) < done:
        time.sleep(0.02)  # `walk` minds no folder that goes while it looks
    time.sleep(later)
    process.kill()  # SIGKILL
    process.wait()
    command(*words, killed)

    def numbers(out):
        stored = json.loads((out / "results.json").read_text())
        assert len(stored["results"]) == 6 and stored["failed"] == []
        return [{k: r[k] for k in r if k != "cost"} for r in stored["results"]]

    assert numbers(killed) == numbers(tmp_path / "whole"), f"seed {seed}"
    for path in (tmp_path / "whole" / "adapters").rglob("*.safetensors"):
        again = load_file(killed / path.relative_to(tmp_path / "whole"))
        assert all(torch.equal(tensor, again[name]) for name, tensor in load_file(path).items()), f"seed {seed}"


def test_all_is_every_method(tmp_path, monkeypatch):
    from det_core.bench.methods import NAMES

    asked = []

    def stopped(data, out, methods, *rest, **more):
        asked.extend(methods)
        raise KeyboardInterrupt

    monkeypatch.setattr("det_core.cli.bench.run_bench", stopped)
    with pytest.raises(KeyboardInterrupt):
        command("bench", "--methods", "all", "--cases", 1, "--out", tmp_path / "out")
    assert asked == list(NAMES)


def test_the_commands_refuse_bad_arguments(tmp_path):
    out = ("--out", tmp_path / "out")
    with pytest.raises(ValueError, match="magic is no method; use none, frozen, guided, ditflow, .*, fym, or all"):
        command("bench", "--methods", "none,magic", *out)
    with pytest.raises(ValueError, match="1 or more"):
        command("bench", "--seeds", 0, *out)
    with pytest.raises(ValueError, match="--dino: .*no config.json"):
        command("bench", "--dino", tmp_path, *out)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="--clip: .*type 'vit'; CLIP features need type clip"):
        command("bench", "--clip", tmp_path, *out)
    with pytest.raises(ValueError, match="no such benchmark folder"):
        command("bench", "--data", tmp_path / "nowhere", *out)
    assert not (tmp_path / "out").exists()
    (tmp_path / "captions.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no videos"):
        command("annotate", "--clips", tmp_path, "--captions", tmp_path / "captions.json", *out)


def test_annotate_makes_cases_that_the_benchmark_reads(tmp_path, capsys):
    from det_core.media.video import write_video

    clips = tmp_path / "clips"
    g = torch.Generator().manual_seed(0)
    texture = torch.rand(64, 64, 3, generator=g).repeat_interleave(8, 0).repeat_interleave(8, 1)
    frames = []
    for t in range(6):
        frame = texture.clone()
        frame[200:320, 100 + 12 * t : 220 + 12 * t] = texture[:120, :120].flip(0)
        frames.append(frame)
    for name in ("good", "uncaptioned", "unmasked"):
        write_video(clips / f"{name}.mp4", torch.stack(frames), 8)
    (clips / "broken.mp4").write_bytes(b"no video")
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((512, 512), np.uint8)
    mask[200:320, 100:220] = 255
    Image.fromarray(mask).save(masks / "good.png")
    Image.new("L", (512, 512)).save(masks / "unmasked.png")
    text = {"caption": "a box\nmoves", "prompts": ["a cat moves", "a car moves"]}
    (tmp_path / "captions.json").write_text(json.dumps(dict.fromkeys(("good", "broken", "unmasked"), text)))
    words = ["annotate", "--clips", clips, "--captions", tmp_path / "captions.json", "--masks", masks]
    command(*words, "--tracker", "lk", "--out", tmp_path / "made")
    shown = capsys.readouterr().out
    assert "good: " in shown and "1 cases" in shown and "3 left out" in shown
    assert "broken: left out" in shown and "not a video" in shown
    assert 'no "caption" and "prompts" for uncaptioned' in shown and "is empty" in shown
    (case,), _ = read_cases(tmp_path / "made")
    assert case.caption == "a box moves" and case.prompts == ("a cat moves", "a car moves")
    tracks = Tracks.load(case.tracks)
    assert tracks.tracker == "lk" and tracks.frames == 6 and case.clusters is not None
    stamp = case.tracks.stat().st_mtime_ns
    command(*words, "--tracker", "lk", "--out", tmp_path / "made")
    assert case.tracks.stat().st_mtime_ns == stamp  # whole cases are kept

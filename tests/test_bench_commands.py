"""The commands `bench` and `annotate`: what they run, what they refuse, what they make."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_training import random_embedded
from tiny_pipelines import saved

from det_core.bench.annotate import annotate
from det_core.bench.layout import read_cases
from det_core.bench.methods import check_methods, learnable
from det_core.cli.main import build_parser
from det_core.models.base_model import base_model_spec
from det_core.tracking.tracks import Tracks


@pytest.fixture(scope="module")
def random_model():
    return random_embedded()


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


def test_kernels_of_another_width_are_another_configuration(tmp_path, monkeypatch):
    spec = base_model_spec("embedded-world")
    narrow = replace(spec, defaults=replace(spec.defaults, mid_dim=32))
    settings = []
    monkeypatch.setattr("det_core.cli.bench.run_bench", lambda *given, **_: settings.append(given[5]) or 1 / 0)
    for found in (spec, narrow):
        monkeypatch.setattr("det_core.cli.bench.base_model_spec", lambda _, found=found: found)
        for methods in ("det", "lora"):
            with pytest.raises(ZeroDivisionError):
                command(
                    "bench", "--model", "embedded-world", "--methods", methods, "--out", tmp_path / "out", "--cases", 1
                )
    assert [given.get("mid_dim") for given in settings] == [64, None, 32, None]


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
    for more, message in (
        (["--model", tmp_path / "nowhere"], "nowhere"),
        (["--tracker", "cotraker"], "cotraker"),
        (["--first-frame"], "takes no first frame"),
    ):
        with pytest.raises(ValueError, match=message):
            command("bench", *more, *out)
    assert not (tmp_path / "out").exists()
    (tmp_path / "captions.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no videos"):
        command("annotate", "--clips", tmp_path, "--captions", tmp_path / "captions.json", *out)


@pytest.mark.parametrize(
    ("name", "why"), [("ltx", "cannot be told where"), ("wan 2.2 A14B", "has two experts"), ("wan 2.1", None)]
)
def test_follow_your_motion_is_refused_before_it_costs_anything(name, why, tmp_path):
    spec = base_model_spec(str(saved(name, tmp_path / "model")))
    check_methods(spec, ["none", "det"])
    assert ("fym" in learnable(spec)) == (why is None) and {"none", "det"} < set(learnable(spec))
    if why is None:
        check_methods(spec, ["none", "fym"])
        return
    with pytest.raises(ValueError, match=f"--methods fym: .* {why}.*leave fym out"):
        command("bench", "--model", tmp_path / "model", "--methods", "none,fym", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("caption", "prompts", "message"),
    [(7, ["a"], "must be a text"), (" ", ["a"], "must be a text"), ("a", ["a b", "a  b "], 'the prompt "a b" more')],
)
def test_annotate_looks_at_texts_before_it_tracks(caption, prompts, message, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"not even read")
    (tmp_path / "captions.json").write_text(json.dumps({"clip": {"caption": caption, "prompts": prompts}}))
    _, (bad,) = annotate(tmp_path, tmp_path / "captions.json", tmp_path / "made")
    assert message in bad.reason and not (tmp_path / "made").exists()


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
    words = ["annotate", "--clips", clips, "--captions", tmp_path / "captions.json"]
    for more, message in ((["--masks", tmp_path / "no"], "no folder of masks"), (["--tracker", "magic"], "magic")):
        with pytest.raises(ValueError, match=message):
            command(*words, *more, "--out", tmp_path / "made")
    words += ["--masks", masks]
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

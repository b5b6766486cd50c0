"""Benchmark folders and their checks; how hard a motion is."""

import shutil

import pytest
import torch
from bench_fakes import bench, write_case, write_cases
from PIL import Image

from det_core.bench.difficulty import count_clusters, level
from det_core.bench.layout import read_case, read_cases
from det_core.tracking.tracks import Tracks


@pytest.fixture
def data(tmp_path):
    return write_cases(tmp_path / "data")


def test_both_layouts_and_groups_are_read(data):
    cases, bad = read_cases(data)
    assert bad == []
    assert [case.name for case in cases] == ["easy/owl", "easy/yak", "fox"]
    assert cases[0].prompts == ("a red fox", "a blue car") and cases[0].caption == "a dog runs"
    assert cases[1].difficulty == "unknown" and cases[2].difficulty in ("easy", "medium", "hard")


def test_hidden_files_and_byte_order_marks_of_other_systems_do_not_matter(data):
    (data / "fox" / "masks" / "._00000.png").write_bytes(b"of macOS")
    text = (data / "fox" / "prompts.txt").read_text()
    (data / "fox" / "prompts.txt").write_text(text, encoding="utf-8-sig")
    case = read_case(data / "fox")
    assert case.mask.name == "00000.png" and case.caption == "a dog runs"


def test_one_case_can_be_read_alone(data):
    assert read_case(data / "fox").name == "fox"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: shutil.rmtree(f / "masks"), "no mask"),
        (lambda f: (f / "eval_prompts.txt").unlink(), "no eval_prompts.txt"),
        (lambda f: (f / "eval_prompts.txt").write_text(" \n\n"), "eval_prompts.txt is empty"),
        (lambda f: (f / "prompts.txt").unlink(), "no prompts.txt"),
        (lambda f: (f / "bad.mp4").unlink(), "no video"),
        (lambda f: (f / "bad.mp4").write_bytes(b"nothing"), "not a video"),
        (
            lambda f: (f / "eval_prompts.txt").write_text("a dog\na cat\n a dog\n"),
            'the prompt "a dog" more than once',
        ),
        (lambda f: Image.new("L", (256, 256)).save(f / "masks" / "00000.png"), "empty"),
        (
            lambda f: Tracks(torch.rand(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)).save(f / "trajectories.npz"),
            "tracks over 4 frames, the video has 5",
        ),
    ],
)
def test_a_bad_case_is_told_from_the_others(data, break_it, message):
    break_it(write_case(data / "bad"))
    cases, bad = read_cases(data)
    assert [case.name for case in cases] == ["easy/owl", "easy/yak", "fox"]
    assert [b.name for b in bad] == ["bad"] and message in bad[0].reason and "\n" not in bad[0].reason


def test_a_bad_case_is_listed_and_the_others_run(data, tmp_path):
    (write_case(data / "bad") / "eval_prompts.txt").write_text("a dog\na dog\n")
    run = bench(data, tmp_path / "out", methods=["none"], seeds=[0])
    assert len(run.results) == 6 and run.bad_cases[0]["name"] == "bad"
    assert 'the prompt "a dog" more than once' in run.markdown.read_text() and "more than once" in run.html.read_text()


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such benchmark folder"):
        read_cases(tmp_path / "nowhere")
    (tmp_path / "one").mkdir()
    with pytest.raises(ValueError, match="no usable case.*one: no video"):
        read_cases(tmp_path)


def test_the_real_cases_are_read(shared_data):
    cases, bad = read_cases(shared_data / "mtbench")
    assert bad == [] and [case.name for case in cases] == ["dance-twirl", "dog-agility"]
    for case in cases:
        assert len(case.prompts) == 5 and all(p == p.strip() and p for p in case.prompts)
        assert case.clusters is not None and case.mask.name == "00000.png"


def groups_of_tracks(count, frames=9, each=12, noise=0.004, seed=0):
    g = torch.Generator().manual_seed(seed)
    spots = torch.tensor([[i % 4, i // 4] for i in range(count)]).float() * 0.25 + 0.1
    paths = spots[:, None] + 0.1 * torch.randn(count, frames, 2, generator=g).cumsum(1) * 0.1
    points = paths.repeat_interleave(each, 0) + noise * torch.randn(count * each, frames, 2, generator=g)
    return Tracks(points, torch.ones(count * each, frames, dtype=torch.bool))


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_well_separated_groups_are_counted(count):
    assert count_clusters(groups_of_tracks(count)) == count


def test_one_cloud_has_no_groups():
    g = torch.Generator().manual_seed(0)
    start = torch.randn(80, 1, 2, generator=g) * 0.05 + 0.5
    points = start + 0.05 * torch.randn(80, 30, 2, generator=g)
    assert count_clusters(Tracks(points, torch.ones(80, 30, dtype=torch.bool))) == 1
    assert count_clusters(Tracks(torch.full((1, 5, 2), 0.5), torch.ones(1, 5, dtype=torch.bool))) == 1
    assert count_clusters(Tracks(torch.full((9, 5, 2), 0.5), torch.ones(9, 5, dtype=torch.bool))) == 1


def test_levels_are_the_papers():
    assert [level(k) for k in (1, 3, 4, 6, 7, 12)] == ["easy", "easy", "medium", "medium", "hard", "hard"]

"""The study's bookkeeping: what is resumed, who takes which unit, what is paired, what the intervals cover."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def videos(score, prompts=("a", "b"), seeds=(1, 2)):
    """Units' rows with `score(prompt, seed)` as every score."""
    from study_source import SCORES

    return [{"prompt": p, "seed": s, **dict.fromkeys(SCORES, score(p, s))} for p in prompts for s in seeds]


def finish(out, training, index, rows):
    from study_source import write
    from study_units import unit_path

    write(unit_path(out, training, index), {"rows": rows, "parameters": 7, "train_seconds": 2.0})


def all_rows(training, score):
    from study_rows import BASE, rows_of

    names = [BASE] if training == BASE else [row.name for row in rows_of(training)]
    return {name: videos(score) for name in names}


def test_every_row_has_a_training_a_table_and_a_name_of_its_own():
    from study_rows import BASE, PAPER, ROWS, TITLES, TRAININGS

    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) and PAPER in names and BASE not in names
    assert {row.training for row in ROWS} == set(TRAININGS)
    assert {row.group for row in ROWS} == set(TITLES)


def test_some_groups_alone_still_train_what_they_are_compared_with():
    from study_rows import GROUPS, TRAININGS, trainings_of

    assert trainings_of(("tracking",)) == ["det", "no tracking", "tracking 0.01"]
    assert trainings_of(("fast",)) == ["steps 200", "fast 0.5", "fast 0.75"]
    assert trainings_of(GROUPS) == list(TRAININGS)


def test_blocks_are_dropped_from_either_end_and_as_many():
    from study_methods import blocks_kept

    assert blocks_kept(8, "last", 0.65) == [0, 1, 2] and blocks_kept(8, "first", 0.65) == [5, 6, 7]
    assert blocks_kept(8, "last", 0.0) == blocks_kept(8, "first", 0.0) == list(range(8))
    assert blocks_kept(8, "last", 1.0) == blocks_kept(8, "first", 1.0) == []


def test_only_open_units_are_given_out_and_to_one_worker_each(tmp_path):
    from study_rows import BASE
    from study_source import QUICK
    from study_units import open_units

    finish(tmp_path, BASE, 0, all_rows(BASE, lambda p, s: 0.5))
    finish(tmp_path, "det", 1, {"DeT": videos(lambda p, s: 0.5)})  # of an older table: other rows are missing
    first, second = open_units(["det"], QUICK, tmp_path), open_units(["det"], QUICK, tmp_path)
    assert next(first) == (BASE, 1)
    assert next(second) == ("det", 0)
    finish(tmp_path, BASE, 1, all_rows(BASE, lambda p, s: 0.5))
    assert next(first) == ("det", 1)
    finish(tmp_path, "det", 0, all_rows("det", lambda p, s: 0.5))
    assert next(second, None) is None, "the last unit is still claimed"
    first.close()
    assert list(open_units(["det"], QUICK, tmp_path)) == [("det", 1)], "a claim ends with its worker"


def test_a_table_has_the_motions_of_all_its_rows_and_pairs_videos_of_the_same_noise(tmp_path):
    from study_report import summary, write_report
    from study_rows import BASE, PAPER
    from study_source import FAMILIES, Plan

    plan = Plan(motions=3)
    with pytest.raises(SystemExit, match="no finished rows"):
        summary(tmp_path, plan)
    noise = {("a", 1): 0.1, ("a", 2): 0.2, ("b", 1): 0.3, ("b", 2): 0.4}
    for index in range(plan.motions):
        finish(tmp_path, BASE, index, all_rows(BASE, lambda p, s: noise[p, s]))
        finish(
            tmp_path, "det", index, all_rows("det", lambda p, s, index=index: noise[p, s] + (0.25, 0.05, 0.25)[index])
        )
    for index in (0, 2):
        finish(tmp_path, "lora", index, all_rows("lora", lambda p, s: 1.0))
    finish(tmp_path, "full", 0, all_rows("full", lambda p, s: 1.0))
    result = summary(tmp_path, plan)
    assert "full fine-tuning" in result["not finished"], "two of three motions are missing"
    form, dropped = result["groups"]["form"], result["groups"]["dropped"]
    assert form["motions"] == [FAMILIES[0], FAMILIES[2]] and dropped["motions"] == list(FAMILIES[:3])
    assert list(form["rows"]) == [BASE, PAPER, "LoRA"] and list(dropped["rows"])[:2] == [BASE, PAPER]
    gain = form["rows"][PAPER][f"gain on {BASE}"]["motion_fidelity"]
    assert gain["mean"] == pytest.approx(0.25) and gain["interval"] == pytest.approx((0.25, 0.25)), "noise cancels"
    gain = dropped["rows"][PAPER][f"gain on {BASE}"]["motion_fidelity"]
    assert gain["mean"] == pytest.approx(0.55 / 3) and gain["interval"] == pytest.approx((0.05, 0.25))
    assert form["rows"][BASE]["motion_fidelity"] == pytest.approx(0.25)
    text = write_report(tmp_path, plan)
    assert "+0.250 [+0.250, +0.250]" in text and "full fine-tuning" in text.split("Not finished: ")[1]
    assert json.loads((tmp_path / "report.json").read_text())["groups"].keys() == result["groups"].keys()
    assert (tmp_path / "dropped.png").stat().st_size > 2000

    finish(tmp_path, "det", 0, {name: rows[::-1] for name, rows in all_rows("det", lambda p, s: 0.5).items()})
    with pytest.raises(ValueError, match="different prompts"):
        summary(tmp_path, plan)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """95% intervals of 6 motions x 6 videos with known spread: a bootstrap of few motions is a little too narrow."""
    from study_report import interval

    g = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        motion, noise = torch.randn(6, 1, generator=g), torch.randn(6, 6, generator=g)
        low, high = interval((motion + noise).tolist(), draws=300)
        covered += low <= 0 <= high
    assert 82 <= covered <= 100


@pytest.mark.slow
def test_the_script_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "study.py"), "--out", str(tmp_path), "--report"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "no finished rows yet" in done.stderr

"""The study's own part: which units belong to a row, what is paired, what the intervals cover."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from det_core.bench.units import Outcome, Unit, read_results, write_outcome

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def finish(out, plan, row, motions, score, draw=0):
    """Store every unit of a row on some motions, with `score(motion, prompt, seed)` as every score."""
    from study_report import SCORES

    for case in plan.cases():
        for unit in plan.units(case, row, draw) if case.index in motions else ():
            value = score(case.index, unit.prompt, unit.seed)
            scores = {**dict.fromkeys(SCORES, value), "place_px": 1.0}
            write_outcome(unit, Outcome(scores, {"train_s": 2.0, "sample_s": 1.0, "parameters": 7}), out, 0.0)


def row_named(plan, name):
    return next(row for row, _ in plan.by_method().values() if row.name == name)


def test_every_row_has_a_training_a_table_and_a_name_of_its_own():
    from study_rows import BASE, CANDIDATES, PAPER, ROWS, TITLES, TRAININGS, UNTUNED

    for rows in (ROWS, UNTUNED, CANDIDATES):
        names = [row.name for row in rows]
        assert len(set(names)) == len(names) and BASE not in names
    assert PAPER in [row.name for row in ROWS]
    assert {row.training for row in (*ROWS, *UNTUNED, *CANDIDATES)} <= set(TRAININGS)
    assert {row.group for row in (*ROWS, *UNTUNED, *CANDIDATES)} == set(TITLES)


def test_some_groups_alone_still_train_what_they_are_compared_with():
    from study_rows import GROUPS, ROWS, Plan

    def trainings(*groups):
        return {row.training for row in Plan.study(groups).rows}

    assert trainings("tracking") == {"det", "no tracking", "tracking 0.01"}
    assert trainings("fast") == {"steps 200", "fast 0.5", "fast 0.75"}
    assert Plan.study(GROUPS).rows == ROWS


def test_blocks_are_dropped_from_either_end_and_as_many():
    from study_methods import blocks_kept

    assert blocks_kept(8, "last", 0.65) == [0, 1, 2] and blocks_kept(8, "first", 0.65) == [5, 6, 7]
    assert blocks_kept(8, "last", 0.0) == blocks_kept(8, "first", 0.0) == list(range(8))
    assert blocks_kept(8, "last", 1.0) == blocks_kept(8, "first", 1.0) == []


def test_a_training_and_all_its_rows_are_one_group_and_whole_trainings_follow_each_other():
    from study_rows import BASE, Plan

    plan = replace(Plan.study(("dropped",)).quick(), seeds=(1, 2))
    base, *_, last = plan.groups()
    assert {unit.method for unit in base} == {BASE} and len(base) == 2 * 2
    assert len({unit.method for unit in last}) == 7 and len(last) == 7 * 2 * 2
    assert [group[0].case.index for group in plan.groups()] == [0, 1, 0, 1]
    untuned = Plan.untuned()
    seeds = [untuned.by_method()[group[0].method][1] for group in untuned.groups()]
    assert seeds == sorted(seeds) and max(seeds) == 2, "second training seeds come after all first ones"
    units = [unit for group in untuned.groups() for unit in group]
    assert len({(u.case.name, u.method, u.prompt, u.seed) for u in units}) == len(units)
    assert sum(unit.method == "DiTFlow" for unit in units) == 10 * 2


def test_prompts_share_no_word_with_the_source_and_training_seeds_track_other_points():
    from study_cases import untuned_case

    case = untuned_case(3)
    assert not set(case.clip.scene.caption.split()[1:]) & set(case.prompts[0].split()) - {"on", "a", "background"}
    assert not torch.equal(case.sources[0].tracks.points, case.sources[1].tracks.points)
    again = untuned_case(3)
    assert torch.equal(again.sources[2].tracks.points, case.sources[2].tracks.points) and again.prompts == case.prompts


def test_a_table_has_the_motions_of_all_its_rows_and_pairs_videos_of_the_same_noise(tmp_path):
    from study_report import summary, write_report
    from study_rows import BASE, PAPER, Plan

    plan = replace(Plan.study(("form", "dropped")), motions=3, seeds=(1, 2))

    def results():
        return read_results(plan.groups(), tmp_path)[0]

    with pytest.raises(SystemExit, match="no finished rows"):
        summary(results(), plan)

    def noise(_motion, prompt, seed):
        return 0.01 * len(prompt) + 0.1 * seed

    finish(tmp_path, plan, row_named(plan, BASE), (0, 1, 2), noise)
    for name in [row.name for row in plan.rows if row.training == "det"]:
        finish(tmp_path, plan, row_named(plan, name), (0, 1, 2), lambda m, p, s: noise(m, p, s) + (0.25, 0.05, 0.25)[m])
    finish(tmp_path, plan, row_named(plan, "LoRA"), (0, 2), lambda *_: 1.0)
    finish(tmp_path, plan, row_named(plan, "full fine-tuning"), (0,), lambda *_: 1.0)
    result = summary(results(), plan)
    assert "full fine-tuning" in result["not finished"], "two of three motions are missing"
    form, dropped = result["groups"]["form"], result["groups"]["dropped"]
    names = [case.name for case in plan.cases()]
    assert form["motions"] == [names[0], names[2]] and dropped["motions"] == names
    assert list(form["rows"]) == [BASE, PAPER, "LoRA"] and list(dropped["rows"])[:2] == [BASE, PAPER]
    gain = form["rows"][PAPER][f"gain on {BASE}"]["motion_fidelity"]
    assert gain["mean"] == pytest.approx(0.25) and gain["interval"] == pytest.approx((0.25, 0.25)), "noise cancels"
    gain = dropped["rows"][PAPER][f"gain on {BASE}"]["motion_fidelity"]
    assert gain["mean"] == pytest.approx(0.55 / 3) and gain["interval"] == pytest.approx((0.05, 0.25))
    text = write_report(results(), plan, tmp_path)
    assert "+0.250 [+0.250, +0.250]" in text and "full fine-tuning" in text.split("Not finished: ")[1]
    assert json.loads((tmp_path / "report.json").read_text())["groups"].keys() == result["groups"].keys()
    assert (tmp_path / "dropped.png").stat().st_size > 2000


def test_training_seeds_are_pooled_and_what_could_not_be_measured_counts_as_nothing(tmp_path):
    from study_report import summary
    from study_rows import BASE, Plan

    plan = replace(Plan.untuned(), motions=2, seeds=(1,))
    finish(tmp_path, plan, row_named(plan, BASE), (0, 1), lambda *_: 0.5)
    row = row_named(plan, "DeT, 200 steps")
    finish(tmp_path, plan, row, (0, 1), lambda *_: 0.9)
    finish(tmp_path, plan, row, (0, 1), lambda motion, *_: None if motion else 0.7, draw=1)
    finish(tmp_path, plan, row, (0,), lambda *_: 0.0, draw=2)  # not on both motions: left out
    found = summary(read_results(plan.groups(), tmp_path)[0], plan)["groups"]["untuned"]["rows"][row.name]
    assert found["videos"] == 8 and found["unmeasured"] == 2
    assert found["motion_fidelity"] == pytest.approx((0.9 + 0.7 + 0.9 + 0.0) / 4)
    assert found[f"gain on {BASE}"]["motion_fidelity"]["mean"] == pytest.approx(0.125)


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


def test_one_training_serves_all_videos_of_its_rows(monkeypatch):
    import study
    from study_rows import Plan

    plan = replace(Plan.study(("dropped",)).quick(), steps=1)
    runner, trained = study.Study(plan), []
    det = study.TRAININGS["det"]
    monkeypatch.setitem(study.TRAININGS, "det", lambda motion: trained.append(motion.case.name) or det(motion))
    case = plan.cases()[0]
    units = [Unit(case, name, case.prompts[0], 100) for name in ("DeT", "DeT, first 65% dropped")]
    outcomes = [runner(unit) for unit in units]
    assert trained == [case.name] and all(outcome.cost["parameters"] == 196_608 for outcome in outcomes)
    assert 0 <= outcomes[0].scores["motion_fidelity"] <= 1


@pytest.mark.slow
def test_the_script_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "study.py"), "--out", str(tmp_path), "--report"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "no finished rows yet" in done.stderr

"""Running a benchmark: every unit once and only once, on one process or on Ray; tables and report."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import bench_fakes
import numpy as np
import pytest
import torch
from bench_fakes import METHODS, bench, scores, write_cases

from det_core.bench import check_installed, on_ray
from det_core.bench.layout import read_cases
from det_core.bench.report import tables
from det_core.bench.runner import run_groups
from det_core.bench.tables import bootstrap, mean_over_cases, paired_gain, with_leakage
from det_core.bench.units import plan, read_results

HERE = Path(__file__).resolve().parent


@pytest.fixture
def data(tmp_path):
    return write_cases(tmp_path / "data")


def test_every_unit_is_run_once_and_a_second_run_does_nothing(data, tmp_path):
    journal = tmp_path / "calls"
    run = bench(data, tmp_path / "out", bench_fakes.Counting(journal))
    calls = journal.read_text().splitlines()
    assert len(calls) == len(set(calls)) == len(run.results) == 3 * 4 * 2 * 2
    again = bench(data, tmp_path / "out", bench_fakes.Counting(journal))
    assert journal.read_text().splitlines() == calls
    assert scores(again) == scores(run)


@pytest.mark.slow
def test_killed_anywhere_and_started_again_it_ends_with_the_same_numbers(data, tmp_path):
    whole = bench(data, tmp_path / "whole", bench_fakes.Counting(tmp_path / "calls"))
    out, journal = tmp_path / "killed", tmp_path / "killed_calls"
    script = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]\n"
        "import bench_fakes; from pathlib import Path; from det_core.bench.runner import run_bench\n"
        f"run_bench(Path({str(data)!r}), Path({str(out)!r}), {METHODS!r}, (0, 1), "
        f"bench_fakes.Counting({str(journal)!r}, 0.05), {{'model': 'fake'}})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not journal.exists() or len(journal.read_text().splitlines()) < 9:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_text().splitlines()
    assert 9 <= len(before) < 48
    resumed = bench(data, out, bench_fakes.Counting(journal))
    assert scores(resumed) == scores(whole)
    assert len(journal.read_text().splitlines()) <= 48 + 1  # only the unit in work at the kill may be made again
    assert not list(out.rglob(".*.json")) or len(resumed.results) == 48


@pytest.mark.slow
def test_two_processes_equal_one(data, tmp_path):
    alone = bench(data, tmp_path / "alone")
    cases, _ = read_cases(data)
    groups = plan(cases, METHODS, (0, 1))
    run_groups(groups, tmp_path / "two", bench_fakes.build, workers=2)
    results, failed = read_results(groups, tmp_path / "two")
    assert failed == [] and [r["look"] for r in results] == [r["look"] for r in alone.results]


def test_a_failing_unit_is_noted_and_tried_again(data, tmp_path, caplog):
    def broken(unit):
        if unit.method == "det" and unit.prompt == "a blue car":
            raise RuntimeError("out of\nmemory")
        return bench_fakes.outcome(unit, video=False)

    run = bench(data, tmp_path / "out", lambda: broken)
    assert len(run.failed) == 6 and run.failed[0]["reason"] == "RuntimeError: out of memory"
    line = "RuntimeError: out of memory: 6 units, the first is easy/owl, det, seed 0, 'a blue car'"
    assert line in run.markdown.read_text() and len(run.results) == 42
    again = bench(data, tmp_path / "out")
    assert again.failed == [] and len(again.results) == 48
    assert not list((tmp_path / "out").rglob("error.json"))


def test_an_out_folder_of_another_configuration_is_refused(data, tmp_path):
    bench(data, tmp_path / "out", methods=["none"])
    with pytest.raises(ValueError, match=r"methods was \['none'\] and is now \['none', 'det'\].*another --out"):
        bench(data, tmp_path / "out", methods=["none", "det"])
    with pytest.raises(ValueError, match="seeds was"):
        bench(data, tmp_path / "out", methods=["none"], seeds=[7])
    (data / "fox" / "eval_prompts.txt").write_text("a green hat\n")
    with pytest.raises(ValueError, match="data was"):
        bench(data, tmp_path / "out", methods=["none"])


def test_a_result_that_is_no_number_is_not_measured(data, tmp_path):
    from det_core.bench.units import Outcome

    run = bench(data, tmp_path / "out", lambda: lambda *_: Outcome({"motion_fidelity": float("nan")}), methods=["none"])
    assert all(r["scores"]["motion_fidelity"] is None for r in run.results)
    assert "not measured" in run.markdown.read_text()


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad\r\n\r\n"])
def test_whoever_is_not_ray_is_told_within_seconds(answer, monkeypatch):
    """A port that takes connections; Ray itself tries such an address for minutes."""
    assert on_ray.CONNECT_S <= 5  # to connect, and again to get an answer
    monkeypatch.setattr(on_ray, "CONNECT_S", 5 if answer else 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if answer:
            threading.Thread(target=lambda: server.accept()[0].sendall(answer), daemon=True).start()
        with pytest.raises(ValueError, match="is no Ray cluster" if answer else f"nothing answers .* {address}"):
            on_ray.run_groups([], Path("unused"), bench_fakes.build, address)


def test_an_unreachable_ray_address_is_named_within_seconds(data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"nothing answers at the Ray address 127.0.0.1:{port}"):
        bench(data, tmp_path / "out", ray=f"127.0.0.1:{port}")
    with pytest.raises(ValueError, match="is no address"):
        bench(data, tmp_path / "out", ray="here")
    assert time.monotonic() - started < 10 and not (tmp_path / "out").exists()


def test_no_ray_cluster_on_this_machine_is_said_within_seconds(data, tmp_path):
    pytest.importorskip("ray", reason="RAY IS NOT INSTALLED: the cluster runner is not tested")
    started = time.monotonic()
    with pytest.raises(ValueError, match="no Ray cluster at auto"):
        bench(data, tmp_path / "out", ray="auto")
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_two_ray_workers_equal_one_process_even_if_one_is_killed(data, tmp_path):
    ray = pytest.importorskip("ray", reason="RAY IS NOT INSTALLED: the cluster runner is not tested")
    alone = bench(data, tmp_path / "alone")
    path = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        address = ray.get_runtime_context().gcs_address
        journal = tmp_path / "calls"
        deadly = bench_fakes.Deadly(journal, ("fox", "det", "a blue car", 1), seconds=0.05)
        together = bench(data, tmp_path / "ray", deadly, ray=address)
        assert deadly.flag.exists()
    finally:
        ray.shutdown()
    assert scores(together) == scores(alone)
    calls = journal.read_text().splitlines()
    assert len(calls) == len(set(calls)) == 48 and together.failed == []


def result(case, method, seed, difficulty="easy", look=None, **values):
    return {
        "case": case, "method": method, "prompt": "p", "seed": seed, "difficulty": difficulty,
        "scores": values, "cost": {"train_s": 2.0}, "look": look,
    }  # fmt: skip


def test_means_count_each_case_once_and_gains_are_paired():
    results = [
        result("a", "none", 0, motion_fidelity=0.2),
        result("a", "none", 1, motion_fidelity=0.4),
        result("a", "det", 0, motion_fidelity=0.9),  # seed 1 is missing: the pair is left out
        result("b", "none", 0, "hard", motion_fidelity=0.1),
        result("b", "det", 0, "hard", motion_fidelity=0.3),
        result("c", "det", 0, "hard", motion_fidelity=None),
    ]
    assert mean_over_cases(results, "none", "motion_fidelity") == pytest.approx((0.3 + 0.1) / 2)
    assert mean_over_cases(results, "det", "motion_fidelity", "hard") == pytest.approx(0.3)
    assert mean_over_cases(results, "det", "train_s") == 2.0
    assert mean_over_cases(results, "det", "edit_fidelity") is None
    gain = paired_gain(results, "det", "motion_fidelity")
    assert gain.mean == pytest.approx((0.7 + 0.2) / 2) and gain.count == 2
    again = [*results, result("a", "det", 1, motion_fidelity=0.5)]  # a case of two pairs weighs as one of one
    assert paired_gain(again, "det", "motion_fidelity").mean == pytest.approx(((0.7 + 0.1) / 2 + 0.2) / 2)
    assert paired_gain(results, "det", "motion_fidelity", "easy").low is None  # one case has no interval
    assert paired_gain(results, "det", "edit_fidelity") is None


def test_a_mean_of_motion_fidelity_says_what_was_left_out():
    results = [result("a", "det", 0, motion_fidelity=0.5), result("a", "det", 1, motion_fidelity=None)]
    (overall,) = tables(results, ["det"])
    assert dict(zip(overall.headings, overall.rows[0], strict=True))["MF"] == "0.500 (1 of 2)"
    (overall,) = tables(results[:1], ["det"])
    assert dict(zip(overall.headings, overall.rows[0], strict=True))["MF"] == "0.500"


def test_leakage_and_diversity_follow_their_definitions():
    results = [
        result("a", "none", 0, source_similarity=0.5),
        result("a", "det", 0, source_similarity=0.8, look=[1.0, 0.0]),
        result("a", "det", 1, source_similarity=0.8, look=[0.0, 1.0]),
        result("b", "none", 0, source_similarity=0.9999),
        result("b", "det", 0, source_similarity=0.9999),
        result("c", "det", 0, edit_fidelity=1.0),
    ]
    results = json.loads(json.dumps(results))  # as they are read from the disk
    leak = {(r["case"], r["method"], r["seed"]): r["scores"]["leakage"] for r in with_leakage(results)}
    assert leak["a", "none", 0] == 0 and leak["a", "det", 0] == pytest.approx(0.6)
    assert leak["a", "det", 1] is None and leak["b", "det", 0] is None and leak["c", "det", 0] is None
    spread = {(r["case"], r["method"]): r["scores"]["diversity"] for r in with_leakage(results)}
    assert spread["a", "det"] == pytest.approx(100) and spread["a", "none"] is None
    (near, _) = with_leakage(
        [result("a", "det", seed, look=look) for seed, look in enumerate([[3.0, 0.0], [1.0, 1.0]])]
    )
    (alone,) = with_leakage([result("a", "det", 0, look=[1.0, 0.0])])
    assert alone["scores"]["diversity"] is None, "one seed differs from none"
    zoned = with_leakage([result("a", "none", 0, source_similarity=0.5), result("a", "sma", 0, source_similarity=0.8)])
    assert zoned[1]["scores"]["leakage"] == pytest.approx(0.6), "the base is the model without adapter alone"
    assert near["scores"]["diversity"] == pytest.approx(100 * (1 - 2**-0.5)), "45 degrees, whatever their lengths"


def test_bootstrap_covers_the_mean_and_narrows_with_cases():
    g = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(60):
        found = bootstrap(torch.randn(30, generator=g).tolist(), seed=trial)
        hits += found.low <= 0 <= found.high
    assert 51 <= hits <= 60  # 95% nominal
    few, many = (bootstrap(torch.randn(n, generator=g).tolist()) for n in (10, 400))
    assert few.high - few.low > 3 * (many.high - many.low)
    assert bootstrap([0.5]).low is None


def test_the_report_stands_alone_and_says_what_was_measured(data, tmp_path):
    run = bench(data, tmp_path / "out")
    html, markdown = run.html.read_text(), run.markdown.read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', html) and "@import" not in html  # nothing outside the file
    assert "<!DOCTYPE svg" not in html  # a page names no other
    assert html.count("data:image/jpeg") == 3 and "<svg" in html
    for method in METHODS:
        assert f"| {method} |" in markdown and method in html
    mean = np.mean([r["scores"]["motion_fidelity"] for r in run.results if r["method"] == "det"])
    row = next(line for line in markdown.splitlines() if line.startswith("| det |"))
    assert f"{mean:.3f}" in row and "not measured" in row  # temporal consistency
    assert "Gain over" in markdown and "By difficulty" in markdown
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(stored["results"]) == 48 and stored["settings"] == {"model": "fake"}


def test_what_only_the_benchmark_needs_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setattr("det_core.bench.find_spec", lambda name: None if name == "sklearn" else True)
    with pytest.raises(ValueError, match="^the benchmark needs scikit-learn: pip install scikit-learn$"):
        check_installed()


def test_names_cannot_break_the_report(data, tmp_path):
    (data / "fox" / "prompts.txt").write_text("<script>alert(1)</script> & more\n")
    (data / "fox" / "eval_prompts.txt").write_text("<b>bold</b> dog\n")

    def broken(*_):
        raise ValueError("<img src=x>")

    run = bench(data, tmp_path / "out", lambda: broken, methods=["none"], seeds=[0])
    assert "<script>" not in run.html.read_text() and "<img src=x>" not in run.html.read_text()


def test_the_runner_costs_little_beside_the_work(data, tmp_path):
    started = time.process_time()
    run = bench(data, tmp_path / "out", bench_fakes.Counting(tmp_path / "calls", video=True))
    assert (time.process_time() - started) / len(run.results) < 0.3  # CPU seconds a unit; real units take minutes

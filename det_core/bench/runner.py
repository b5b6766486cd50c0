"""Run a benchmark: every unit once, on this process or on Ray, resumable, and a report at the end."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ..files import write_json
from .layout import Case, fingerprint, read_cases
from .units import Group, RunUnit, plan, read_results, run_group, work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchRun:
    """What came out: per-unit results, units that failed, cases that could not be used, and the two report files."""

    results: list[dict]
    failed: list[dict]
    bad_cases: list[dict]
    html: Path
    markdown: Path


def run_bench(
    data: Path,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    build: Callable[[], RunUnit],
    settings: dict,
    *,
    ray: str | None = None,
    on_gpus: bool = False,
) -> BenchRun:
    """Run what is missing of a benchmark and write its report.

    Args:
        data:     a benchmark folder, see `layout`.
        out:      the run's folder. An interrupted run continues there and ends with the same numbers as a whole one.
        build:    makes the callable that runs one unit, once in each process; it must be picklable for Ray.
        settings: everything else that decides the numbers (model, steps, ...), as JSON values; see bench.json in `out`.
        ray:      address of a Ray cluster ("host:port", "ray://host:port" or "auto"); None runs in this process.
        on_gpus:  whether a unit takes a GPU of a Ray cluster that has some.
    Raises: ValueError if no case is usable, `out` belongs to another configuration, or Ray is not reachable.
    """
    if ray is not None:
        from . import on_ray

        on_ray.check_reachable(ray)  # before the cases are read, which takes a while
    cases, bad = read_cases(data)
    for case in bad:
        log.warning("case %s is left out: %s", case.name, case.reason)
    claim(out, {**settings, "methods": list(methods), "seeds": list(seeds), "data": fingerprint(cases)})
    groups = plan(cases, methods, seeds)
    waiting = [group for group in groups if not all(unit.is_done(out) for unit in group)]
    log.info("%d cases, %d of %d groups of units to run", len(cases), len(waiting), len(groups))
    if ray is not None:
        on_ray.run_groups(waiting, out, build, ray, on_gpus)
    else:
        run_groups(waiting, out, build)
    return finish(cases, [vars(case) for case in bad], groups, methods, settings, out)


def run_groups(groups: Sequence[Group], out: Path, build: Callable[[], RunUnit], workers: int = 1) -> None:
    """Run every group on this machine, in this process or in several, which `build` must be picklable for."""
    for number, group in enumerate(_done_in_turn(groups, out, build, workers), 1):
        unit = group[0]
        log.info("[%d/%d] %s, %s, seed %d", number, len(groups), unit.case.name, unit.method, unit.seed)


def _done_in_turn(groups: Sequence[Group], out: Path, build: Callable[[], RunUnit], workers: int) -> Iterator[Group]:
    """Runs the groups; gives each once it is done."""
    if workers == 1 or len(groups) < 2:
        run_unit = build() if groups else None
        for group in groups:
            run_group(group, out, run_unit)
            yield group
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(work, group, str(out), build): group for group in groups}
        for done in as_completed(pending):
            done.result()
            yield pending[done]


def finish(
    cases: Sequence[Case], bad: list[dict], groups: Sequence[Group], methods: Sequence[str], settings: dict, out: Path
) -> BenchRun:
    """Gather all results and write results.json and the report."""
    from .report import write_report
    from .tables import with_leakage

    results, failed = read_results(groups, out)
    results = with_leakage(results)
    content = {"settings": settings, "results": results, "failed": failed, "bad_cases": bad}
    write_json(out / "results.json", content)
    html, markdown = write_report(cases, groups, results, failed, bad, methods, settings, out)
    return BenchRun(results, failed, bad, html, markdown)


def claim(out: Path, config: dict) -> None:
    """Take the folder `out` for a configuration, or check that it already is this configuration's.

    Raises: ValueError that names what differs, with both values.
    """
    path = out / "bench.json"
    config = json.loads(json.dumps(config))
    if not path.is_file():
        return write_json(path, config)
    earlier = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in {**earlier, **config} if earlier.get(key) != config.get(key)]
    if differing:
        pairs = "; ".join(f"{key} was {earlier.get(key)!r} and is now {config.get(key)!r}" for key in differing)
        raise ValueError(
            f"{out} holds a run of another configuration: {pairs}. Give another --out, or the old settings"
        )

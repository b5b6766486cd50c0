"""Run a benchmark: every unit once, on this process or on Ray, resumable, and a report at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import atomic_write
from .layout import Case, fingerprint, read_cases
from .units import Group, RunUnit, plan, read_results, run_group

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
    gpus_per_worker: float = 0,
) -> BenchRun:
    """Run what is missing of a benchmark and write its report.

    Args:
        data:     a benchmark folder, see `layout`.
        out:      the run's folder. An interrupted run continues there and ends with the same numbers as a whole one.
        build:    makes the callable that runs one unit, once in each process; it must be picklable for Ray.
        settings: everything else that decides the numbers (model, steps, ...), as JSON values; see bench.json in `out`.
        ray:      address of a Ray cluster ("host:port", "ray://host:port" or "auto"); None runs in this process.
    Raises: ValueError if no case is usable, `out` belongs to another configuration, or Ray is not reachable.
    """
    if ray is not None:
        from .on_ray import check_reachable, run_groups

        check_reachable(ray)  # before the cases are read, which takes a while
    cases, bad = read_cases(data)
    for case in bad:
        log.warning("case %s is left out: %s", case.name, case.reason)
    claim(out, {**settings, "methods": list(methods), "seeds": list(seeds), "data": fingerprint(cases)})
    groups = plan(cases, methods, seeds)
    waiting = [group for group in groups if not all(unit.is_done(out) for unit in group)]
    log.info("%d cases, %d of %d groups of units to run", len(cases), len(waiting), len(groups))
    if ray is not None:
        run_groups(waiting, out, build, ray, gpus_per_worker)
    elif waiting:
        run_unit = build()
        for number, group in enumerate(waiting, 1):
            run_group(group, out, run_unit)
            unit = group[0]
            log.info("[%d/%d] %s, %s, seed %d", number, len(waiting), unit.case.name, unit.method, unit.seed)
    return finish(cases, [vars(case) for case in bad], groups, methods, settings, out)


def finish(
    cases: Sequence[Case], bad: list[dict], groups: Sequence[Group], methods: Sequence[str], settings: dict, out: Path
) -> BenchRun:
    """Gather all results and write results.json and the report."""
    from .report import write_report
    from .tables import with_leakage

    results, failed = read_results(groups, out)
    results = with_leakage(results)
    with atomic_write(out / "results.json") as temporary:
        content = {"settings": settings, "results": results, "failed": failed, "bad_cases": bad}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    html, markdown = write_report(cases, groups, results, failed, bad, methods, settings, out)
    return BenchRun(results, failed, bad, html, markdown)


def claim(out: Path, config: dict) -> None:
    """Take the folder `out` for a configuration, or check that it already is this configuration's.

    Raises: ValueError that names what differs, with both values.
    """
    path = out / "bench.json"
    config = json.loads(json.dumps(config))
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in {**earlier, **config} if earlier.get(key) != config.get(key)]
    if differing:
        pairs = "; ".join(f"{key} was {earlier.get(key)!r} and is now {config.get(key)!r}" for key in differing)
        raise ValueError(
            f"{out} holds a run of another configuration: {pairs}. Give another --out, or the old settings"
        )

"""The report of a benchmark run: one self-contained HTML file, and the same tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic_write
from .charts import as_svg, scatter, spots_of, strip
from .layout import Case
from .tables import (
    COSTS,
    METRICS,
    Interval,
    bootstrap,
    case_means,
    levels,
    mean_over_cases,
    measured,
    paired_gain,
    share_measured,
)
from .units import BASE, Group

if TYPE_CHECKING:
    from jinja2 import Template

NOTES = (
    "EF edit fidelity, TC temporal consistency, MF motion fidelity, leakage: share of the way from the model without "
    "adapter to the source's looks. All are better when larger, leakage when smaller. "
    "docs/understand/metrics.md defines them.",
    f'"{BASE}" is the model without adapter, "frozen" its first frame held still: a method that does not beat both has '
    "not transferred motion. A frozen video has perfect temporal consistency.",
    "Means are over cases, each case counting once. Intervals are 95% bootstrap intervals over cases; of fewer than "
    "about five cases they are too narrow to be trusted.",
)
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Table:
    """Rows of text, the first cell of each a label."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.headings) - 1)]
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.headings, rule, *self.rows)]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """A value as the tables show it."""
    return NOT_MEASURED if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(value: Interval | None) -> str:
    """A mean with its interval."""
    if value is None:
        return NOT_MEASURED
    spread = "1 case" if value.low is None else f"{value.low:+.3f} .. {value.high:+.3f}"
    return f"{value.mean:+.3f} ({spread})"


def mean(results: Sequence[dict], method: str, metric: str, level: str | None = None) -> str:
    """A mean over cases; of motion fidelity with "(n of m)" where videos that lost the subject have none."""
    shown = number(mean_over_cases(results, method, metric, level))
    if not metric.startswith("motion_fidelity"):
        return shown
    there, units = share_measured(results, method, metric, level)
    return f"{shown} ({there} of {units})" if 0 < there < units else shown


def tables(results: Sequence[dict], methods: Sequence[str]) -> list[Table]:
    """Overall with costs, by difficulty where there are several, and gains over the model without adapter."""
    names = [
        *dict.fromkeys(["edit_fidelity", "temporal_consistency", "motion_fidelity", *measured(results), "leakage"])
    ]
    names = [name for name in METRICS if name in names]
    headings = [METRICS[name] for name in names]
    rows = [[method, *(mean(results, method, m) for m in (*names, *COSTS))] for method in methods]
    found = [Table("Overall", ["method", *headings, *COSTS.values()], rows)]
    if len(levels(results)) > 1:
        rows = []
        for level in levels(results):
            count = len({r["case"] for r in results if r["difficulty"] == level})
            for method in methods:
                cells = (mean(results, method, name, level) for name in names)
                rows.append([f"{level} ({count}), {method}", *cells])
        found.append(Table("By difficulty", ["difficulty (cases), method", *headings], rows))
    others = [method for method in methods if method != BASE]
    gained = [name for name in names if name not in ("leakage", "diversity")]
    if BASE in methods and others:
        rows = [[method, *(interval(paired_gain(results, method, name)) for name in gained)] for method in others]
        leaked = [list(case_means(results, method, "leakage").values()) for method in others]
        rows = [[*row, interval(bootstrap(v) if v else None)] for row, v in zip(rows, leaked, strict=True)]
        found.append(
            Table(
                f'Gain over "{BASE}", paired', ["method", *(METRICS[n] for n in gained), "leakage (not a gain)"], rows
            )
        )
    return found


def write_report(
    cases: Sequence[Case],
    groups: Sequence[Group],
    results: Sequence[dict],
    failed: Sequence[dict],
    bad: Sequence[dict],
    methods: Sequence[str],
    settings: dict,
    out: Path,
) -> tuple[Path, Path]:
    """Write report.html and report.md into `out`; returns their paths."""
    shown = tables(results, methods)
    title = f"Motion transfer benchmark: {settings.get('model', 'model')}"
    counts = f"{len(cases)} cases, {len(results)} finished units, {len(failed)} unfinished, {len(bad)} cases left out"
    problems = [f"{b['name']}: {b['reason']}" for b in bad]
    problems += _unfinished(failed)

    lines = [f"# {title}\n", f"{counts}.\n", *(table.markdown() for table in shown)]
    lines += ["## How to read this\n", *(f"* {note}" for note in NOTES), ""]
    if problems:
        lines += ["## Left out and unfinished\n", *(f"* {problem}" for problem in problems), ""]
    lines += ["## Settings\n", *(f"* {key}: {value}" for key, value in settings.items()), ""]
    markdown = out / "report.md"
    with atomic_write(markdown) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")

    spots = spots_of(results, methods)
    strips = [(case, strip(case, _first_units(case, groups), out)) for case in cases]
    page = {
        "title": title,
        "counts": counts,
        "notes": NOTES,
        "tables": shown,
        "not_measured": NOT_MEASURED,
        "scatter": as_svg(scatter(spots)) if spots else None,
        "strips": [(case, uri) for case, uri in strips if uri],
        "problems": problems,
        "settings": settings,
    }
    html = out / "report.html"
    with atomic_write(html) as temporary:
        temporary.write_text(_template().render(page), encoding="utf-8")
    return html, markdown


def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))


def _unfinished(failed: Sequence[dict]) -> list[str]:
    """One line a reason: how many units it stopped, and the first of them."""
    by_reason: dict[str, list[dict]] = {}
    for unit in failed:
        by_reason.setdefault(unit["reason"], []).append(unit)
    lines = []
    for reason, units in by_reason.items():
        first = "{case}, {method}, seed {seed}, {prompt!r}".format(**units[0])
        lines.append(f"{reason}: {len(units)} units, the first is {first}")
    return lines


def _first_units(case: Case, groups: Sequence[Group]) -> list:
    """The first unit of every method of a case, in the plan's order."""
    first = {}
    for group in groups:
        if group[0].case.name == case.name:
            first.setdefault(group[0].method, group[0])
    return list(first.values())

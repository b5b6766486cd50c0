"""The report of a benchmark run: one self-contained HTML file, and the same tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..files import atomic_write
from .charts import scatter, strip
from .layout import Case
from .tables import COSTS, METRICS, Interval, bootstrap, case_means, levels, mean_over_cases, measured, paired_gain
from .units import BASE, Group

NOTES = (
    "EF edit fidelity, TC temporal consistency, MF motion fidelity, leakage: share of the way from the model without "
    "adapter to the source's looks. All are better when larger, leakage when smaller. "
    "docs/understand/metrics.md defines them.",
    f'"{BASE}" is the model without adapter, "frozen" its first frame held still: a method that does not beat both has '
    "not transferred motion. A frozen video has perfect temporal consistency.",
    "Means are over cases, each case counting once. Intervals are 95% bootstrap intervals over cases; of fewer than "
    "about five cases they are too narrow to be trusted.",
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff }
body { max-width: 1180px; margin: 2em auto; padding: 0 1.5em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d8dee4 }
table { border-collapse: collapse; margin: 0.7em 0 }
th, td { padding: 0.3em 0.8em; border-bottom: 1px solid #e5e9ed; text-align: right; white-space: nowrap }
th { background: #f6f8fa } td { font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0 } td:first-child { background: #fff }
.none { color: #8b949e } .note { color: #57606a; max-width: 80ch } .wide { overflow-x: auto }
svg { max-width: 700px; width: 100%; min-width: 540px } svg text { font-size: 12px; fill: #1f2328 }
.frame { fill: none; stroke: #8b949e } .grid { stroke: #eaeef2 }
img { max-width: 100%; min-width: 720px; border: 1px solid #d8dee4 }
dt { font-weight: 600 } dd { margin: 0 0 0.4em 1.5em; overflow-wrap: anywhere }
"""
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

    def html(self) -> str:
        def cells(tag: str, row: Sequence[str]) -> str:
            return "".join(
                f'<{tag} class="none">{escape(c)}</{tag}>' if c == NOT_MEASURED else f"<{tag}>{escape(c)}</{tag}>"
                for c in row
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        head = f"<tr>{cells('th', self.headings)}</tr>"
        return f'<h2>{escape(self.title)}</h2><div class="wide"><table>{head}{body}</table></div>'


def number(value: float | None) -> str:
    """A value as the tables show it."""
    return NOT_MEASURED if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(value: Interval | None) -> str:
    """A mean with its interval."""
    if value is None:
        return NOT_MEASURED
    spread = "1 case" if value.low is None else f"{value.low:+.3f} .. {value.high:+.3f}"
    return f"{value.mean:+.3f} ({spread})"


def tables(results: Sequence[dict], methods: Sequence[str]) -> list[Table]:
    """Overall with costs, by difficulty where there are several, and gains over the model without adapter."""
    names = [
        *dict.fromkeys(["edit_fidelity", "temporal_consistency", "motion_fidelity", *measured(results), "leakage"])
    ]
    names = [name for name in METRICS if name in names]
    headings = [METRICS[name] for name in names]
    rows = [[method, *(number(mean_over_cases(results, method, m)) for m in (*names, *COSTS))] for method in methods]
    found = [Table("Overall", ["method", *headings, *COSTS.values()], rows)]
    if len(levels(results)) > 1:
        rows = []
        for level in levels(results):
            count = len({r["case"] for r in results if r["difficulty"] == level})
            for method in methods:
                cells = (number(mean_over_cases(results, method, name, level)) for name in names)
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

    body = [f"<h1>{escape(title)}</h1><p>{counts}.</p>", *(f'<p class="note">{escape(note)}</p>' for note in NOTES)]
    body += [table.html() for table in shown]
    picture = scatter(results, methods)
    if picture:
        body.append(f'<h2>Edit fidelity against motion fidelity</h2><div class="wide">{picture}</div>')
        body.append('<p class="note">Small dots are cases, large ones means. Up and to the right is better.</p>')
    strips = [(case, strip(case, _first_units(case, groups), out)) for case in cases]
    if any(uri for _, uri in strips):
        body.append("<h2>Cases: first prompt, first seed, tracks drawn</h2>")
    for case, uri in strips:
        if uri:
            body.append(f"<h3>{escape(case.name)} ({case.difficulty})</h3>")
            body.append(f'<div class="wide"><img loading="lazy" alt="{escape(case.name)}" src="{uri}"></div>')
    if problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
        body.append(f"<h2>Left out and unfinished</h2><ul>{items}</ul>")
    pairs = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in settings.items())
    body.append(f"<h2>Settings</h2><dl>{pairs}</dl>")
    html = out / "report.html"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{escape(title)}</title><style>{STYLE}</style>"
    with atomic_write(html) as temporary:
        temporary.write_text(
            f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>", encoding="utf-8"
        )
    return html, markdown


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

"""Tables, intervals and the report file of the study."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from statistics import mean

import torch
from study_plots import scatter
from study_rows import BASE, PAPER, REFERENCES, ROWS, TITLES, Row
from study_source import FAMILIES, SCORES, Plan, write
from study_units import unit_path

HEAD = (
    "| row | MF | EF | consistency | leakage | MF gain on no adapter | EF gain | MF gain on {} | EF gain "
    "| parameters | train s |"
)


def interval(per_motion: list[list[float]], draws: int = 4000) -> tuple[float, float]:
    """95% bootstrap interval of a mean over motions, resampling motions and the videos within them."""
    values, generator = torch.tensor(per_motion), torch.Generator().manual_seed(0)
    motions = torch.randint(values.shape[0], (draws, values.shape[0], 1), generator=generator)
    videos = torch.randint(values.shape[1], (draws, *values.shape), generator=generator)
    low, high = values[motions, videos].mean((1, 2)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def finished_units(out: Path, plan: Plan) -> dict[str, dict[str, dict]]:
    """{row: {motion: its unit}} of the rows that have half of the motions at least, each unit with its `videos`."""
    found = {}
    for row in (Row(BASE, "", BASE), *ROWS):
        units = {}
        for index in range(plan.motions):
            path = unit_path(out, row.training, index)
            unit = json.loads(path.read_text()) if path.exists() else {"rows": {}}
            if row.name in unit["rows"]:
                units[FAMILIES[index]] = {**unit, "videos": unit["rows"][row.name]}
        if 2 * len(units) >= plan.motions:
            found[row.name] = units
    return found


def paired(units: list[dict], reference: list[dict], score: str) -> list[list[float]]:
    """Differences of one score, video by video, in one list a motion; both have the same prompts and noise."""
    differences = []
    for one, other in zip(units, reference, strict=True):
        pairs = list(zip(one["videos"], other["videos"], strict=True))
        if any((a["prompt"], a["seed"]) != (b["prompt"], b["seed"]) for a, b in pairs):
            raise ValueError("these units answer different prompts or seeds; start the study anew in an empty folder")
        differences.append([a[score] - b[score] for a, b in pairs])
    return differences


def group_summary(found: dict[str, dict[str, dict]], names: list[str], references: tuple[str, ...]) -> dict:
    """Means of some rows over the motions that all of them have, and paired gains on `references` with intervals."""
    motions = [family for family in FAMILIES if all(family in found[name] for name in names)]
    rows = {}
    for name in names:
        units = [found[name][family] for family in motions]
        row = {score: mean(mean(v[score] for v in unit["videos"]) for unit in units) for score in SCORES}
        row["parameters"] = units[0]["parameters"]
        row["train_seconds"] = mean(unit["train_seconds"] for unit in units)
        row["motion_fidelity_by_motion"] = {
            family: mean(v["motion_fidelity"] for v in unit["videos"])
            for family, unit in zip(motions, units, strict=True)
        }
        for reference in references:
            if name != reference and reference in names:
                others = [found[reference][family] for family in motions]
                row[f"gain on {reference}"] = {
                    score: {"mean": mean(map(mean, differences)), "interval": interval(differences)}
                    for score in SCORES
                    for differences in [paired(units, others, score)]
                }
        rows[name] = row
    return {"motions": motions, "references": references, "rows": rows}


def summary(out: Path, plan: Plan) -> dict:
    """Every table: {group: its motions and rows}, what it is compared with first in each."""
    found = finished_units(out, plan)
    groups = {}
    for group in TITLES:
        own = [row.name for row in ROWS if row.group == group and row.name in found]
        references = (BASE, REFERENCES.get(group, PAPER))
        first = [name for name in references if name in found and name not in own]
        if own and BASE in found:
            groups[group] = group_summary(found, first + own, references)
    if not groups:
        raise SystemExit(f"{out} has no finished rows yet")
    return {
        "machine": f"{platform.processor() or platform.machine()}, one thread a process",
        "torch": torch.__version__,
        "plan": plan.__dict__,
        "groups": groups,
        "not finished": [row.name for row in ROWS if row.name not in found],
    }


def table(rows: dict[str, dict], references: tuple[str, ...]) -> str:
    """Some rows in Markdown."""

    def gain(row: dict, reference: str, score: str) -> str:
        if f"gain on {reference}" not in row:
            return ""
        found = row[f"gain on {reference}"][score]
        low, high = found["interval"]
        return f"{found['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"

    lines = [HEAD.format(references[-1]), "|" + "---|" * (HEAD.count("|") - 1)]
    for name, row in rows.items():
        cells = [name, *(f"{row[score]:.3f}" for score in SCORES)]
        cells += [gain(row, to, score) for to in references for score in ("motion_fidelity", "edit_fidelity")]
        cells += (
            [f"{row['parameters']:,}".replace(",", " "), f"{row['train_seconds']:.0f}"]
            if row["parameters"]
            else ["", ""]
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_report(out: Path, plan: Plan) -> str:
    """Write report.json and a plot a table into `out`; returns the tables as Markdown."""
    result = summary(out, plan)
    write(out / "report.json", result)
    parts = []
    for group, found in result["groups"].items():
        motions = ", ".join(found["motions"])
        parts.append(f"## {TITLES[group]}\n\nMotions: {motions}.\n\n{table(found['rows'], found['references'])}")
        scatter(found["rows"], TITLES[group]).save(out / f"{group}.png", optimize=True)
    if result["not finished"]:
        parts.append("Not finished: " + ", ".join(result["not finished"]))
    return "\n\n".join(parts)

"""Tables, intervals and the report file of the study."""

from __future__ import annotations

import platform
from pathlib import Path
from statistics import mean

import torch
from study_rows import BASE, PAPER, REFERENCES, TITLES, Plan, Row

from det_core.bench.charts import Spot, scatter
from det_core.files import write_json

SCORES = ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage")
Found = dict[str, dict[str, list[dict]]]  # row -> motion -> the results of its units


def interval(per_motion: list[list[float]], draws: int = 4000) -> tuple[float, float]:
    """95% bootstrap interval of a mean over motions, resampling motions and the videos within them."""
    values, generator = torch.tensor(per_motion), torch.Generator().manual_seed(0)
    motions = torch.randint(values.shape[0], (draws, values.shape[0], 1), generator=generator)
    videos = torch.randint(values.shape[1], (draws, *values.shape), generator=generator)
    low, high = values[motions, videos].mean((1, 2)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def finished(results: list[dict], plan: Plan) -> Found:
    """The rows that have half of the motions at least, with the training seeds that all of these motions have."""
    by_unit = {(r["case"], r["method"], r["prompt"], r["seed"]): r for r in results}
    found, cases = {}, plan.cases()
    for row in (Row(BASE, "", "nothing"), *plan.rows):
        seeds = []
        for draw in range(row.draws):
            units = {case.name: plan.units(case, row, draw) for case in cases}
            keys = {name: [(name, u.method, u.prompt, u.seed) for u in each] for name, each in units.items()}
            whole = {name: [by_unit[k] for k in each] for name, each in keys.items() if by_unit.keys() >= set(each)}
            if draw == 0 and 2 * len(whole) < len(cases):
                break
            if draw == 0 or whole.keys() >= seeds[0].keys():
                seeds.append(whole)
        if seeds:
            found[row.name] = {name: [r for seed in seeds for r in seed[name]] for name in seeds[0]}
    return found


def score_of(result: dict, name: str) -> float:
    """A motion that could not be measured was not carried over: it counts as 0."""
    return result["scores"][name] or 0.0


def paired(results: list[dict], reference: list[dict], name: str) -> list[float]:
    """Differences of one score, each to the video of the same prompt and noise."""
    same = {(r["prompt"], r["seed"]): r for r in reference}
    return [score_of(r, name) - score_of(same[r["prompt"], r["seed"]], name) for r in results]


def row_summary(found: Found, row: str, motions: list[str], references: tuple[str, ...]) -> dict:
    """Means of a row, and paired gains on `references` with intervals."""
    by_motion = {name: found[row][name] for name in motions}
    every = [r for each in by_motion.values() for r in each]
    places = [r["scores"]["place_px"] for r in every if r["scores"]["place_px"] is not None]
    summary = {name: mean(mean(score_of(r, name) for r in each) for each in by_motion.values()) for name in SCORES}
    summary["place_px"] = mean(places) if places else None
    summary["videos"] = len(every)
    summary["unmeasured"] = sum(r["scores"]["motion_fidelity"] is None for r in every)
    summary["parameters"] = int(every[0]["cost"]["parameters"])
    summary["train_seconds"] = mean(r["cost"]["train_s"] for r in every)
    summary["sample_seconds"] = mean(r["cost"]["sample_s"] for r in every)
    summary["motion_fidelity_by_motion"] = {
        name: mean(score_of(r, "motion_fidelity") for r in each) for name, each in by_motion.items()
    }
    for reference in references:
        if row != reference and reference in found:
            gains = {
                score: [paired(by_motion[name], found[reference][name], score) for name in motions] for score in SCORES
            }
            summary[f"gain on {reference}"] = {
                score: {"mean": mean(map(mean, each)), "interval": interval(each)} for score, each in gains.items()
            }
    return summary


def summary(results: list[dict], plan: Plan) -> dict:
    """Every table: {group: its motions and rows}, what it is compared with first in each."""
    found = finished(results, plan)
    groups = {}
    for group in TITLES:
        own = [row.name for row in plan.rows if row.group == group and row.name in found]
        references = tuple(dict.fromkeys((BASE, REFERENCES.get(group, PAPER))))
        names = [name for name in references if name in found and name not in own] + own
        if own and BASE in found:
            motions = [case.name for case in plan.cases() if all(case.name in found[name] for name in names)]
            here = {name: found[name] for name in names}
            rows = {name: row_summary(here, name, motions, references) for name in names}
            groups[group] = {"motions": motions, "references": references, "rows": rows}
    if not groups:
        raise SystemExit("no finished rows yet")
    return {
        "machine": f"{platform.processor() or platform.machine()}, one thread a process",
        "torch": torch.__version__,
        "plan": {"name": plan.name, "seeds": plan.seeds, "steps": plan.steps},
        "groups": groups,
        "not finished": [row.name for row in plan.rows if row.name not in found],
    }


def table(rows: dict[str, dict], references: tuple[str, ...]) -> str:
    """Some rows in Markdown."""
    gains = [(to, score) for to in references for score in ("motion_fidelity", "edit_fidelity")]
    head = ["row", "MF", "EF", "consistency", "leakage"]
    head += [heading for to in references for heading in (f"MF gain on {to}", "EF gain")]
    lines = [head + ["parameters", "train s"], ["---"] * (len(head) + 2)]
    for name, row in rows.items():
        cells = [name, *(f"{row[score]:.3f}" for score in SCORES), *(gain(row, *which) for which in gains)]
        costs = [f"{row['parameters']:,}".replace(",", " "), f"{row['train_seconds']:.0f}"]
        lines.append(cells + (costs if row["parameters"] else ["", ""]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def gain(row: dict, reference: str, score: str) -> str:
    if f"gain on {reference}" not in row:
        return ""
    found = row[f"gain on {reference}"][score]
    low, high = found["interval"]
    return f"{found['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def spot(name: str, row: dict) -> Spot:
    """A row in the plot; its intervals are those of the paired gains on the model without adapter."""
    axes = "motion_fidelity", "edit_fidelity"
    gains = [row[f"gain on {BASE}"][axis] for axis in axes] if f"gain on {BASE}" in row else []
    reach = [tuple(abs(edge - gain["mean"]) for edge in gain["interval"]) for gain in gains]
    return Spot(name, tuple(row[axis] for axis in axes), reach=tuple(reach) or ((0.0, 0.0), (0.0, 0.0)))


def write_report(results: list[dict], plan: Plan, out: Path) -> str:
    """Write report.json and a plot a table into `out`; returns the tables as Markdown."""
    result = summary(results, plan)
    write_json(out / "report.json", result)
    parts = []
    for group, found in result["groups"].items():
        motions = ", ".join(found["motions"])
        parts.append(f"## {TITLES[group]}\n\nMotions: {motions}.\n\n{table(found['rows'], found['references'])}")
        spots = [spot(name, row) for name, row in found["rows"].items()]
        scatter(spots, TITLES[group]).savefig(out / f"{group}.png", dpi=120)
    if result["not finished"]:
        parts.append("Not finished: " + ", ".join(result["not finished"]))
    return "\n\n".join(parts)

"""From unit results to tables: means over cases, paired gains over the model without adapter, bootstrap intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ..metrics.appearance import leaked_share
from .units import BASE

METRICS = {  # key -> heading; all but leakage are better when larger
    "edit_fidelity": "EF",
    "temporal_consistency": "TC",
    "temporal_consistency_reference_code": "TC (reference code)",
    "motion_fidelity": "MF",
    "motion_fidelity_reference_code": "MF (reference code)",
    "first_frame_psnr": "first frame, dB",
    "leakage": "leakage",
    "diversity": "diversity",
}
COSTS = {"train_s": "training s", "sample_s": "sampling s", "peak_mb": "peak MB"}
LEVELS = ("easy", "medium", "hard", "unknown")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% bootstrap interval over `count` cases; `low` and `high` are None for fewer than 2 cases."""

    mean: float
    low: float | None
    high: float | None
    count: int


def with_leakage(results: Iterable[dict]) -> list[dict]:
    """Add scores["leakage"] and scores["diversity"] to the results that allow it, as copies.

    Leakage compares a unit's similarity to the source with that of the model without adapter on the same prompt and
    seed. Diversity is 100 x the mean of 1 - cosine between the looks of a prompt's seeds.
    """
    results = [{**r, "scores": dict(r["scores"])} for r in results]
    base = {_pair(r): r["scores"].get("source_similarity") for r in results if r["method"] == BASE}
    seeds = defaultdict(list)
    for r in results:
        if r.get("look") is not None:
            seeds[r["case"], r["method"], r["prompt"]].append(torch.tensor(r["look"]))
    spread = {key: _diversity(torch.stack(looks)) for key, looks in seeds.items() if len(looks) > 1}
    for r in results:
        similarity, floor = r["scores"].get("source_similarity"), base.get(_pair(r))
        known = similarity is not None and floor is not None
        r["scores"]["leakage"] = leaked_share(similarity, floor) if known else None
        r["scores"]["diversity"] = spread.get((r["case"], r["method"], r["prompt"]))
    return results


def _pair(result: dict) -> tuple:
    return result["case"], result["prompt"], result["seed"]


def _diversity(looks: torch.Tensor) -> float:
    looks = torch.nn.functional.normalize(looks, dim=-1)
    above = torch.triu_indices(len(looks), len(looks), offset=1)
    return (100 * (1 - (looks @ looks.T)[above[0], above[1]]).mean()).item()


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean and 95% percentile interval of the mean of `values` (one per case), cases resampled with replacement."""
    data = torch.tensor(values, dtype=torch.float64)
    if len(data) < 2:
        return Interval(data.mean().item(), None, None, len(data))
    draws = torch.randint(len(data), (RESAMPLES, len(data)), generator=torch.Generator().manual_seed(seed))
    low, high = data[draws].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(data.mean().item(), low, high, len(data))


def case_means(results: Iterable[dict], method: str, metric: str, level: str | None = None) -> dict[str, float]:
    """Case -> mean of a metric (or cost) over its prompts and seeds; cases without a value are left out."""
    values = defaultdict(list)
    for r in results:
        value = r["cost"].get(metric) if metric in COSTS else r["scores"].get(metric)
        if r["method"] == method and value is not None and level in (None, r["difficulty"]):
            values[r["case"]].append(value)
    return {case: sum(v) / len(v) for case, v in values.items()}


def mean_over_cases(results: Iterable[dict], method: str, metric: str, level: str | None = None) -> float | None:
    """Mean of the cases' means, each case counting once; None where nothing was measured."""
    values = list(case_means(results, method, metric, level).values())
    return sum(values) / len(values) if values else None


def share_measured(results: Iterable[dict], method: str, metric: str, level: str | None = None) -> tuple[int, int]:
    """Units of a method that have a value of the metric, and all its units."""
    values = [r["scores"].get(metric) for r in results if r["method"] == method and level in (None, r["difficulty"])]
    return sum(value is not None for value in values), len(values)


def paired_gain(results: Sequence[dict], method: str, metric: str, level: str | None = None) -> Interval | None:
    """Gain over the model without adapter: the mean over (prompt, seed) pairs that both have, then over cases."""
    pairs = defaultdict(dict)
    for r in results:
        value = r["scores"].get(metric)
        if r["method"] in (method, BASE) and value is not None and level in (None, r["difficulty"]):
            pairs[_pair(r)][r["method"]] = value
    gains = defaultdict(list)
    for (case, _, _), values in pairs.items():
        if len(values) == 2:
            gains[case].append(values[method] - values[BASE])
    return bootstrap([sum(g) / len(g) for g in gains.values()]) if gains else None


def measured(results: Iterable[dict]) -> list[str]:
    """The metrics that at least one unit has, in the order of METRICS."""
    names = {name for r in results for name, value in r["scores"].items() if value is not None}
    return [name for name in METRICS if name in names]


def levels(results: Iterable[dict]) -> list[str]:
    """The difficulties that occur, easiest first."""
    found = {r["difficulty"] for r in results}
    return [level for level in LEVELS if level in found]

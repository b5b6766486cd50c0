"""What the benchmark runner costs beside the work it runs, on the embedded model.

    python tests/benchmarks/bench_runner.py [--repeats 3] [--steps 40]

Each repeat runs one case whole (train, sample, measure; methods none and det, one seed, three prompts) into a new
folder and compares the wall time of `run_bench` with the time spent in the units. The rest is the runner's: checking
the cases, writing videos, tracks and results, the tables and the report. Loading the model counts for neither.
Writes tests/benchmarks/results/runner.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from det_core.bench.methods import Methods, MethodSettings  # noqa: E402
from det_core.bench.runner import run_bench  # noqa: E402
from det_core.bench.sprite_cases import write_sprite_cases  # noqa: E402
from det_core.files import atomic_write  # noqa: E402

METHODS = ("none", "det")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="training steps: few, so that the work is small")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "benchmarks" / "results" / "runner.json")
    options = parser.parse_args()
    rows = [one_run(options.steps) for _ in range(options.repeats)]
    for row in rows:
        print(f"whole {row['whole_s']:.1f} s, units {row['units_s']:.1f} s, runner {row['share']:.2%} of the units")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    with atomic_write(options.out) as temporary:
        content = {"machine": machine, "threads": torch.get_num_threads(), "steps": options.steps, "runs": rows}
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def one_run(steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        write_sprite_cases(data, 1)
        methods, seconds = Methods(MethodSettings("embedded", str(out), "cpu", steps)), []

        def timed(unit):
            started = time.perf_counter()
            outcome = methods(unit)
            seconds.append(time.perf_counter() - started)
            return outcome

        started = time.perf_counter()
        run = run_bench(data, out, METHODS, [0], lambda: timed, {"model": "embedded", "steps": steps})
        whole = time.perf_counter() - started
    assert run.failed == [] and len(seconds) == len(run.results) == 6
    return {"whole_s": whole, "units_s": sum(seconds), "share": (whole - sum(seconds)) / sum(seconds)}


if __name__ == "__main__":
    main()

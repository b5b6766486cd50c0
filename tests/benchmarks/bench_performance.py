"""Speed and memory of kernels, training step and sampling step, against the method as the paper's equation reads.

    python tests/benchmarks/bench_performance.py                 # on the fastest device there is; on a CPU small shapes
    python tests/benchmarks/bench_performance.py --device cpu --only kernel step

Each part writes one JSON and one SVG, results/performance-DEVICE-PART.*: machine, commit, versions, medians, spread.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import time
from pathlib import Path

import performance_timing  # puts the repository on the path, before what follows
import torch

PARTS = {
    "kernel": "bench_temporal_conv",
    "step": "bench_step",
    "scaling": "bench_scaling",
    "memory": "bench_memory",
}
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = torch.device(args.device)
    for chatty in ("diffusers", "det_core"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    from performance_plots import picture

    for part in args.only:
        started = time.monotonic()
        torch.manual_seed(0)
        result = importlib.import_module(PARTS[part]).measure(device)
        path = args.out / f"performance-{device.type}-{part}.json"
        performance_timing.write(path, {**performance_timing.machine(device), **result})
        path.with_suffix(".svg").write_text(picture(part, result))
        print(f"{path}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()

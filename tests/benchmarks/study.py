"""The study behind docs/measured/study.md: ablations, other adapters, Follow-Your-Motion; paired, embedded model.

    python tests/benchmarks/study.py --out runs/study             # everything; continues where it was stopped
    python tests/benchmarks/study.py --out runs/study --quick     # two motions, few steps: does it run
    python tests/benchmarks/study.py --out runs/study --report    # only the tables and plots of what is there
    python tests/benchmarks/study.py --out runs/study --only form dropped

Every method learns the same source clips with the same seeds and answers the same prompts from the same noise.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_rows import GROUPS, trainings_of  # noqa: E402
from study_source import QUICK, Plan  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a unit")
    parser.add_argument("--quick", action="store_true", help="2 motions, 2 videos each, 20 steps; into OUT/quick")
    parser.add_argument("--report", action="store_true", help="no runs, only tables and plots of what is there")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--worker", action="store_true", help="be one more process in this folder, and report nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = QUICK if args.quick else Plan()
    out = args.out / plan.name
    if args.worker:
        from study_units import work

        work(trainings_of(tuple(args.only)), plan, out)
        return
    if not args.report:
        run_workers(args.workers)
    from study_report import write_report

    print(write_report(out, plan))


def run_workers(count: int) -> None:
    """This very command line in `count` processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, *sys.argv, "--worker"], env=environment) for _ in range(count)]
    try:
        codes = [worker.wait() for worker in workers]
    except KeyboardInterrupt:
        for worker in workers:
            worker.terminate()
        raise
    if any(codes):
        sys.exit("a worker of the study stopped; the same command continues where it was")


if __name__ == "__main__":
    main()

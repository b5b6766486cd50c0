"""What all performance measurements share: repeats in turns, medians and spread, where they ran, how they are kept."""

from __future__ import annotations

import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    candidates: Mapping[str, Callable[[], object]], device: torch.device, repeats: int, warm_up: int = 2
) -> dict[str, dict]:
    """Seconds of each candidate, taken in turns so that what else the machine does meets all of them alike."""
    for call in candidates.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    gc.disable()
    try:
        for _ in range(repeats):
            for name, call in candidates.items():
                sync(device)
                started = time.perf_counter()
                call()
                sync(device)
                seconds[name].append(time.perf_counter() - started)
    finally:
        gc.enable()
    return {name: spread(values) for name, values in seconds.items()}


def spread(values: list[float]) -> dict:
    """Median, extremes and number of measurements."""
    return {"median": median(values), "min": min(values), "max": max(values), "repeats": len(values)}


def machine(device: torch.device) -> dict:
    """Where and with what the figures were made."""
    import diffusers

    try:
        commit = subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    cpu = torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu or platform.machine(),
        "threads": torch.get_num_threads(),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "triton": _version("triton"),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write(path: Path, value: dict) -> None:
    from det_core.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")

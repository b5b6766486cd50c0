"""The subject found without a mask, against truth: on drawn scenes that no constant was chosen on.

    python tests/benchmarks/bench_subject.py [--seeds 3]

Prints the table of docs/understand/tracks.md and writes tests/benchmarks/results/subject.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

import cv2
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from moving_scenes import KINDS, moving_scene  # noqa: E402

from det_core.files import write_json  # noqa: E402
from det_core.tracking.foreground import found_subject  # noqa: E402
from det_core.tracking.trackers import track  # noqa: E402
from det_core.tracking.tracks import sample_query_points  # noqa: E402

SHARES = ("iou", "precision", "recall", "slid_off")
NEAR_PX = 2  # beside the figure still counts as on it


def slid_off(frames: torch.Tensor, masks: torch.Tensor) -> float:
    """Share of the believed places of `dis`, for points of the true mask, that are not on the figure any more."""
    tracks = track(
        frames, sample_query_points(masks[0], 100, generator=torch.Generator().manual_seed(0)), tracker="dis"
    )
    size = torch.tensor([masks.shape[2], masks.shape[1]])
    places = (tracks.points * size).long().clamp(torch.zeros(2).long(), size - 1)  # (N, T, 2)
    near = F.max_pool2d(masks[:, None].float(), 2 * NEAR_PX + 1, 1, NEAR_PX)[:, 0] > 0
    on = near[torch.arange(len(masks)), places[..., 1], places[..., 0]]
    return (tracks.visible & ~on)[:, 1:].sum().item() / max(1, tracks.visible[:, 1:].sum().item())


def measure(kind: str, seeds: int) -> dict:
    rows = []
    for seed in range(seeds):
        frames, masks = moving_scene(kind, seed)
        (found, doubt), truth = found_subject(frames), masks[0]
        both = (found & truth).sum().item()
        shares = both / (found | truth).sum().item(), both / found.sum().item(), both / truth.sum().item()
        rows.append({**dict(zip(SHARES, (*shares, slid_off(frames, masks)), strict=True)), "doubt": doubt})
    means = {name: mean(row[name] for row in rows) for name in SHARES}
    return {
        **means,
        "least": min(row["iou"] for row in rows),
        "doubts": sum(bool(r["doubt"]) for r in rows),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="scenes of each kind")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "benchmarks" / "results" / "subject.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results = {"what": f"{args.seeds} scenes of each kind (tests/moving_scenes.py), 10 frames of 360x240", "kinds": {}}
    for kind in KINDS:
        row = results["kinds"][kind] = measure(kind, args.seeds)
        shares = " | ".join(f"{row[name]:.2f}" for name in ("iou", "least", "precision", "recall", "slid_off"))
        print(f"| {kind} | {shares} | {row['doubts']} of {args.seeds} |", flush=True)
    write_json(args.out, results)


if __name__ == "__main__":
    main()

"""Trackers against CoTracker3's tracks of two real clips, and the automatic foreground against given masks.

    python tests/benchmarks/bench_trackers.py [--data ../shared/data] [--repeats 3]

Protocol: the reference tracks' 100 points are queried at frame 1, where they are exact, and followed over all 49
frames; frames 2 to 48 are scored with the TAP-Vid metrics at 256x256. Seconds are CPU time of one thread, the least of
the repeats. CoTracker3 has a row of its own where its code and weights are found. Prints the rows of the tables in
docs/understand/tracks.md and writes all numbers to tests/benchmarks/results/trackers.json.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from det_core.files import atomic_write  # noqa: E402
from det_core.media.masks import read_mask  # noqa: E402
from det_core.media.video import read_video  # noqa: E402
from det_core.metrics.tapvid import tapvid_score  # noqa: E402
from det_core.models.embedded.corpus import Scene, render_video, sprite_coverage  # noqa: E402
from det_core.tracking.foreground import foreground_mask  # noqa: E402
from det_core.tracking.trackers import resolve_tracker, track  # noqa: E402
from det_core.tracking.tracks import Tracks  # noqa: E402

CLIPS = ("dance-twirl", "dog-agility")
FOREGROUNDS = {
    "dance-twirl": ("mtbench/dance-twirl/dance-twirl.mp4", "mtbench/dance-twirl/masks"),
    "dog-agility": ("mtbench/dog-agility/dog-agility.mp4", "mtbench/dog-agility/masks"),
    "apple": ("clips/apple.mp4", "clips/apple_mask.png"),
}
QUERY_FRAME = 1
AGES = {"1-8": (1, 8), "9-16": (9, 16), "17-24": (17, 24), "25-47": (25, 47)}  # frames after the query


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the clips")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each tracker")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "benchmarks" / "results" / "trackers.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"no clips at {options.data}: give their folder with --data")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results = {"machine": _machine(), "trackers": {}, "foreground": {}}
    for name in ("static", *_usable()):
        for clip in CLIPS:
            row = measure_tracker(name, clip, options.data, options.repeats)
            results["trackers"].setdefault(name, {})[clip] = row
            print(tracker_line(name, clip, row), flush=True)
    for clip, (video, mask) in FOREGROUNDS.items():
        row = measure_foreground(options.data / video, options.data / mask, options.repeats)
        results["foreground"][clip] = row
        numbers = "{iou:.2f} | {precision:.2f} | {recall:.2f} | {seconds:.1f}".format(**row)
        print(f"| foreground | {clip} | {numbers} |", flush=True)
    results["foreground"]["sprites"] = row = measure_sprites()
    print("| foreground | {count} sprites | {iou:.2f} (least {least:.2f}) |".format(**row), flush=True)
    with atomic_write(options.out) as temporary:
        temporary.write_text(json.dumps(results, indent=1))
    print(f"written to {options.out}")


def measure_tracker(name: str, clip: str, data: Path, repeats: int) -> dict:
    """One tracker on one clip: scores, share called visible, precision and recall of that, scores by age, seconds."""
    folder = data / "mtbench" / clip
    reference = Tracks.load(folder / "trajectories.npz")
    frames = read_video(folder / f"{clip}.mp4").frames
    queries = reference.points[:, QUERY_FRAME]
    if name == "static":  # the floor: every point stays where it was asked for, always visible
        points = queries[:, None].expand(-1, reference.frames, -1)
        predicted, seconds = Tracks(points, torch.ones_like(reference.visible), name), 0.0
    else:
        spent = []
        for _ in range(repeats):
            start = time.process_time()
            predicted = track(frames, queries, tracker=name, query_frame=QUERY_FRAME)
            spent.append(time.process_time() - start)
        seconds = min(spent)
    scored = slice(QUERY_FRAME + 1, None)
    truth, guess = reference.visible[:, scored], predicted.visible[:, scored]
    both = int((truth & guess).sum())
    return {
        **asdict(tapvid_score(predicted, reference, QUERY_FRAME)),
        "precision": both / max(int(guess.sum()), 1),
        "recall": both / int(truth.sum()),
        "visible_share": float(guess.float().mean()),
        "delta_by_age": {age: _delta(predicted, reference, *ends) for age, ends in AGES.items()},
        "seconds": seconds,
    }


def measure_foreground(video: Path, mask: Path, repeats: int) -> dict:
    """The automatic mask of the first frame against a given one."""
    frames = read_video(video).frames
    given = read_mask(mask, *frames.shape[1:3])
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        found = foreground_mask(frames)
        spent.append(time.process_time() - start)
    both = int((found & given).sum())
    return {
        "iou": both / int((found | given).sum()),
        "precision": both / int(found.sum()),
        "recall": both / int(given.sum()),
        "seconds": min(spent),
    }


def measure_sprites(count: int = 24, frames: int = 9) -> dict:
    """The automatic mask on 64x64 clips of the embedded model's corpus: sprites on a piece of a circle."""
    generator = torch.Generator().manual_seed(0)
    scenes = Scene.held_out()[:: len(Scene.held_out()) // count][:count]
    overlaps = []
    for scene in scenes:
        start, turn = torch.rand(2, generator=generator).mul(torch.tensor([6.28, 4.4])).tolist()
        angle = start + (turn + 1.9) * torch.linspace(0, 1, frames)
        path = 32 + 14 * torch.stack([angle.cos(), angle.sin()], dim=-1)
        video = render_video(scene, path, torch.full((frames,), 9.0), torch.zeros(frames))
        axis = torch.arange(64) + 0.5
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        moved = x - path[0, 0], y - path[0, 1]
        sprite = sprite_coverage(scene.shape, *moved, torch.tensor(9.0), torch.tensor(0.0)) > 0.5
        found = foreground_mask(video)
        overlaps.append(float((found & sprite).sum() / (found | sprite).sum()))
    return {"count": len(overlaps), "iou": sum(overlaps) / len(overlaps), "least": min(overlaps)}


def tracker_line(name: str, clip: str, row: dict) -> str:
    ages = " / ".join(f"{value:.2f}" for value in row["delta_by_age"].values())
    return (
        f"| {name} | {clip} | {row['delta_avg']:.3f} | {row['average_jaccard']:.3f} | {row['occlusion_accuracy']:.3f} "
        f"| {row['precision']:.2f} / {row['recall']:.2f} | {row['visible_share']:.2f} | {ages} | {row['seconds']:.1f} |"
    )


def _delta(predicted: Tracks, reference: Tracks, youngest: int, oldest: int) -> float:
    """delta_avg over the frames of one age after the query."""
    ages = [QUERY_FRAME, *range(QUERY_FRAME + youngest, QUERY_FRAME + oldest + 1)]
    parts = (Tracks(tracks.points[:, ages], tracks.visible[:, ages]) for tracks in (predicted, reference))
    return tapvid_score(*parts, query_frame=0).delta_avg


def _usable() -> list[str]:
    names = []
    for name in ("lk", "dis", "cotracker"):
        try:
            names.append(resolve_tracker(name))
        except ValueError as error:
            print(f"left out: {error}")
    return names


def _machine() -> dict:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    cpu = next(
        (line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "command": "python tests/benchmarks/bench_trackers.py",
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()

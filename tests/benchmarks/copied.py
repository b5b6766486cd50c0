"""What a method takes from the source beside its motion: place, size, kind and colour of objects, the background.

    python -m det_core bench --data embedded-world --model embedded-world --cases 12 --methods none,guided,det \\
        --seeds 1 --out runs/world
    python tests/benchmarks/copied.py runs/world

Of each video that a benchmark on the small world kept, read by the world's reader: `place_px` and `size`, distance and
size (|log of the ratio|) of each object against the source's that it is nearest to in all, at the same time; `kind`,
`colour`, `background`: share of frames that show the source's, where the prompt asks for another.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import permutations
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_report import interval  # noqa: E402

from det_core.bench.layout import Case, read_cases  # noqa: E402
from det_core.bench.units import BASE, Unit  # noqa: E402
from det_core.files import write_json  # noqa: E402
from det_core.media.video import read_video  # noqa: E402
from det_core.models.embedded.corpus import SIZE  # noqa: E402
from det_core.models.embedded.world.reader import WorldReading, read_world  # noqa: E402
from det_core.models.embedded.world.scene import World, world_of  # noqa: E402
from det_core.source import resize_frames  # noqa: E402

SCORES = ("motion_fidelity", "edit_fidelity", "temporal_consistency")
COPIED = ("place_px", "size", "kind", "colour", "background")


def read(path: Path) -> WorldReading:
    return read_world(resize_frames(read_video(path).frames, SIZE, SIZE))


def nearest(source: WorldReading, shown: WorldReading) -> dict[str, float | None]:
    """Place and size of the shown objects against the source's, matched so that they are nearest; None without any."""
    found = []
    for order in permutations(shown.objects, min(len(source.objects), len(shown.objects))):
        apart, larger = [], []
        for there, here in zip(source.objects, order, strict=False):
            both = there.seen & here.seen
            if both.any():
                apart.append(float((there.path - here.path)[both].norm(dim=-1).mean()))
                larger.append(abs(float((here.poses[both, 2].mean() / there.poses[both, 2].mean()).log())))
        if apart:
            found.append((mean(apart), mean(larger)))
    return dict(zip(("place_px", "size"), min(found, default=(None, None)), strict=True))


def looks(source: World, wanted: World, shown: WorldReading) -> dict[str, float | None]:
    """Shares of frames with what the source shows and the prompt does not name; None where it names the same."""
    kinds = {thing.kind for thing in source.things} - {thing.kind for thing in wanted.things}
    colours = {thing.colour for thing in source.things} - {thing.colour for thing in wanted.things}
    ground, frames = (source.background, source.pattern), len(shown.counts)
    of_kind = [sum(kind in kinds for kind in one.kinds) / frames for one in shown.objects]
    of_colour = [float(one.seen.float().mean()) for one in shown.objects if one.colour in colours]
    same_ground = float((shown.ground.colour, shown.ground.pattern) == ground)
    return {
        "kind": max(of_kind, default=0.0) if kinds else None,
        "colour": max(of_colour, default=0.0) if colours else None,
        "background": same_ground if ground != (wanted.background, wanted.pattern) else None,
    }


def measured(case: Case, methods: list[str], out: Path) -> dict[str, list[dict]]:
    """Of one case, method -> one entry a prompt."""
    source, world, found = read(case.video), world_of(case.caption), {}
    for method in methods:
        for prompt in case.prompts:
            folder = Unit(case, method, prompt, 0).folder(out)
            shown = read(folder / "video.mp4")
            scores = json.loads((folder / "result.json").read_text(encoding="utf-8"))["scores"]
            entry = {**{k: scores[k] for k in SCORES}, **nearest(source, shown)}
            found.setdefault(method, []).append({**entry, **looks(world, world_of(prompt), shown)})
    return found


def gain(by_case: dict[str, dict[str, list[dict]]], method: str, reference: str, name: str) -> list[float]:
    """Mean of the paired differences of one number, and its 95% interval over cases."""
    means = []
    for found in by_case.values():
        pairs = [(a[name], b[name]) for a, b in zip(found[method], found[reference], strict=True)]
        pairs = [a - b for a, b in pairs if a is not None and b is not None]
        means += [[mean(pairs)]] if pairs else []
    return [mean(value for (value,) in means), *interval(means)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of a finished benchmark on embedded-world")
    parser.add_argument("--methods", default="none,guided,det", help="of those that were run, the base first")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    args = parser.parse_args()
    methods = args.methods.split(",")
    by_case = {case.name: measured(case, methods, args.out) for case in read_cases(args.out / "data")[0]}
    rows = {}
    for method in methods:
        every = [entry for found in by_case.values() for entry in found[method]]
        rows[method] = {n: mean(e[n] for e in every if e[n] is not None) for n in (*SCORES, *COPIED)}
        if method != BASE:
            rows[method]["gain"] = {name: gain(by_case, method, BASE, name) for name in (*SCORES, *COPIED)}
    print("| method | " + " | ".join((*SCORES, *COPIED)) + " |\n|" + "---|" * (1 + len(SCORES + COPIED)))
    for method, row in rows.items():
        print(f"| {method} | " + " | ".join(f"{row[name]:.3f}" for name in (*SCORES, *COPIED)) + " |")
    if args.json:
        write_json(args.json, {"cases": len(by_case), "rows": rows})


if __name__ == "__main__":
    main()

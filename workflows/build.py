"""Write every workflow, for the editor (workflows/*.json) and for queueing over HTTP (workflows/api/*.json), from the
descriptions in workflows/source.

    python workflows/build.py
    .venv-comfyui/bin/python workflows/build.py --record     # after an edit of a node's inputs, outputs or texts

The second form first writes what is made from the node classes: see `source/record.py`. Nothing here is read by
ComfyUI; the JSON files are."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def files() -> dict[Path, str]:
    """The text of every workflow file."""
    from source.det import GRAPHS
    from source.fym import FYM_GRAPHS
    from source.graph import Graph
    from source.guidance import GUIDANCE_GRAPHS

    found = {}
    for name, (title, describe) in {**GRAPHS, **GUIDANCE_GRAPHS, **FYM_GRAPHS}.items():
        graph = Graph()
        describe(graph)
        for path, content in ((HERE / f"{title}.json", graph.ui()), (HERE / "api" / f"{name}.json", graph.api())):
            found[path] = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write the workflow files.")
    arguments.add_argument("--record", action="store_true", help="first read the node classes; needs ComfyUI")
    if arguments.parse_args().record:
        from source.record import record, write

        write(record())
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

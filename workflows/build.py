"""Write every workflow, for the editor (workflows/*.json, as an app *.app.json) and for queueing over HTTP
(workflows/api/*.json), and the blueprints (subgraphs/*.json), from the descriptions in workflows/source; and the help
pages in Chinese (nodes/web/docs/*/zh.md) from the English ones and the translations of their blocks.

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
    """The text of every workflow, app, blueprint and Chinese page."""
    from source.blueprints import BLUEPRINTS
    from source.editor import blueprint, ui
    from source.graph import Graph
    from source.record import chinese_pages
    from source.templates import APPS, TEMPLATES

    found = {}
    for name, (title, describe) in TEMPLATES.items():
        graph = Graph()
        describe(graph)
        found[HERE / f"{title}.json"] = ui(graph, title)
        found[HERE / "api" / f"{name}.json"] = graph.api()
        if name in APPS:
            title, inputs, outputs = APPS[name]
            graph.app(inputs, outputs)
            found[HERE / f"{title}.app.json"] = ui(graph, title)
    for name, (given, describe, description) in BLUEPRINTS.items():
        graph = Graph()
        graph.subgraph(name, describe, **given)
        found[HERE.parent / "subgraphs" / f"{name}.json"] = blueprint(graph, name, description)
    texts = {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in found.items()}
    return texts | chinese_pages()


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write the workflow files.")
    arguments.add_argument("--record", action="store_true", help="first read the node classes; needs ComfyUI")
    if arguments.parse_args().record:
        from source.record import record, write

        write(record())
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

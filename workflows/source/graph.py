"""A workflow under construction, in both forms: as the editor saves it, and as POST /prompt takes it.

What nodes have for inputs and outputs is read from records of their classes (`record`), nothing of it is written here:
a description names what differs from the defaults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PACK_ID = "comfyui-det"
RECORDS = (Path(__file__).with_name("stock.json"), Path(__file__).resolve().parents[2] / "tests" / "surface.json")
NOTES = Path(__file__).with_name("notes")
COLUMN, ROW = 400, 60  # pixels between columns; space between nodes of one
HIGHEST = 1750  # pixels; a column that would become higher goes on beside itself
SLOT, WIDGET, MARGIN = 20, 24, 20  # pixels that a row of sockets, a widget, and the frame of a node take
WIDTHS = {"MarkdownNote": 360}
# Nodes with more than sockets and one-line widgets: texts, and the pictures and videos that they show when they ran.
HEIGHTS = {
    "CLIPTextEncode": 150,
    "CreateVideo": 110,
    "DeTEvaluateMotion": 480,
    "DeTSaveMotionAdapter": 200,
    "DeTTrackVideo": 420,
    "DeTTrainMotionAdapter": 700,
    "FYMClassifyHeads": 420,
    "FYMTrainMotionLoRA": 760,
    "LoadVideo": 400,
    "LossGraphNode": 300,
    "MarkdownNote": 340,
    "SaveImage": 320,
    "SaveVideo": 420,
}
_VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")  # inputs that are widgets
_NOTHING = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}


@cache
def nodes() -> dict[str, dict]:
    """Inputs in order and outputs of every node that a workflow may have, by class."""
    return {k: v for path in RECORDS for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


def widgets(kind: str) -> list[dict[str, Any]]:
    """The inputs of a node that have a widget, in the order in which the editor saves their values."""
    return [entry for entry in nodes()[kind]["inputs"] if entry["type"] in _VALUES]


def outputs(kind: str) -> list[str]:
    """The types of a node's outputs."""
    return [entry["type"] for entry in nodes()[kind]["outputs"]] if kind in nodes() else []


@dataclass(frozen=True)
class Out:
    """One output of a node."""

    node: int
    slot: int


@dataclass
class Graph:
    """A workflow under construction: `column(...)` starts a column, `add(...)` puts a node under the last one."""

    nodes: list[dict] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    x: int = 0
    y: int = 0

    def column(self, title: str | None = None) -> None:
        """Start the next column; with a title it begins a group, which goes on until the next titled column."""
        self.x += COLUMN if self.nodes else 0
        self.y = 0
        if title:
            self.groups.append({"title": title, "x": self.x})

    def add(self, kind: str, title: str | None = None, **inputs) -> list[Out]:
        """Add a node; an `Out` as an input's value is a link. Dots in input names are written as two underscores.

        What is not given has its default, which records know of this pack's nodes only.
        """
        number = len(self.nodes) + 1
        inputs = {name.replace("__", "."): value for name, value in inputs.items()}
        defaults = {e["name"]: e["default"] for e in nodes().get(kind, {"inputs": ()})["inputs"] if "default" in e}
        inputs = {**inputs, **{name: value for name, value in defaults.items() if name not in inputs}}
        height = _height(kind, inputs)
        if self.y and self.y + height > HIGHEST:
            self.column()
        self.nodes.append(
            {"id": number, "type": kind, "title": title, "inputs": inputs, "pos": (self.x, self.y), "height": height}
        )
        self.y += height + ROW
        return [Out(number, slot) for slot in range(len(outputs(kind)))]

    def note(self, name: str) -> None:
        """The text of notes/`name`.md."""
        text = (NOTES / f"{name}.md").read_text(encoding="utf-8").strip()
        self.add("MarkdownNote", title="Read me", text=text)

    def api(self) -> dict:
        """The graph as POST /prompt takes it."""
        return {
            str(node["id"]): {
                "class_type": node["type"],
                "inputs": {k: [str(v.node), v.slot] if isinstance(v, Out) else v for k, v in node["inputs"].items()},
                "_meta": {"title": node["title"] or node["type"]},
            }
            for node in self.nodes
            if node["type"] != "MarkdownNote"
        }

    def ui(self) -> dict:
        """The graph as the editor saves it."""
        links, incoming, outgoing = self._links()
        nodes = [self._entry(order, node, incoming, outgoing) for order, node in enumerate(self.nodes)]
        return {
            "id": "00000000-0000-0000-0000-000000000000",
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": links,
            "groups": self._groups(),
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _links(self) -> tuple[list, dict[int, list], dict[tuple[int, int], list]]:
        """All links; the connected inputs of each node; the links that leave each (node, slot)."""
        links, incoming, outgoing = [], {}, {}
        types = {node["id"]: outputs(node["type"]) for node in self.nodes}
        for node in self.nodes:
            for name, value in node["inputs"].items():
                if not isinstance(value, Out):
                    continue
                kind, slots = types[value.node][value.slot], incoming.setdefault(node["id"], [])
                links.append([len(links) + 1, value.node, value.slot, node["id"], len(slots), kind])
                slot = {"name": name, "type": kind, "link": len(links)}
                if name in [entry["name"] for entry in widgets(node["type"])]:
                    slot["widget"] = {"name": name}
                slots.append(slot)
                outgoing.setdefault((value.node, value.slot), []).append(len(links))
        return links, incoming, outgoing

    def _entry(self, order: int, node: dict, incoming: dict, outgoing: dict) -> dict:
        """One node."""
        entry = {
            "id": node["id"],
            "type": node["type"],
            "pos": list(node["pos"]),
            "size": [WIDTHS.get(node["type"], 340), node["height"]],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": incoming.get(node["id"], []),
            "outputs": [
                {"name": kind, "type": kind, "links": outgoing.get((node["id"], slot), [])}
                for slot, kind in enumerate(outputs(node["type"]))
            ],
            "properties": {
                "Node name for S&R": node["type"],
                "cnr_id": PACK_ID if node["type"].startswith(("DeT", "FYM")) else "comfy-core",
            },
            "widgets_values": self._widgets(node),
        }
        if node["title"]:
            entry["title"] = node["title"]
        if node["type"] == "MarkdownNote":
            entry |= {"properties": {}, "color": "#432", "bgcolor": "#653"}
        return entry

    def _groups(self) -> list[dict]:
        groups = []
        ends = [*(group["x"] for group in self.groups[1:]), self.x + COLUMN]
        for number, (group, end) in enumerate(zip(self.groups, ends, strict=True)):
            bottom = max(n["pos"][1] + n["height"] for n in self.nodes if group["x"] <= n["pos"][0] < end)
            groups.append(
                {
                    "id": number + 1,
                    "title": group["title"],
                    "bounding": [group["x"] - 20, -70, end - group["x"] - 20, bottom + 90],
                    "color": "#3f789e",
                    "font_size": 24,
                    "flags": {},
                }
            )
        return groups

    @staticmethod
    def _widgets(node: dict) -> list:
        if node["type"] == "MarkdownNote":
            return [node["inputs"]["text"]]
        values = []
        for entry in widgets(node["type"]):
            value = node["inputs"].get(entry["name"])
            unused = value is None or isinstance(value, Out)  # a linked widget keeps a value of its own
            values.append(entry.get("default", _NOTHING.get(entry["type"], "")) if unused else value)
            if entry.get("seed"):
                values.append("fixed")  # the editor puts one more widget after it, its control
        return values


def _height(kind: str, inputs: dict) -> int:
    if kind in HEIGHTS:
        return HEIGHTS[kind]
    own = widgets(kind)
    names, seeds = {entry["name"] for entry in own}, sum(entry.get("seed", False) for entry in own)
    sockets = max(len(outputs(kind)), sum(name not in names for name in inputs))
    return SLOT * sockets + WIDGET * (len(own) + seeds) + MARGIN

"""A workflow under construction, and its form for POST /prompt; `editor` writes the form that the editor saves.

What nodes have for inputs and outputs is read from records of their classes (`record`), nothing of it is written here:
a description names what differs from the defaults.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .sizes import COLUMN, GAP, TITLE, height_of

RECORDS = (Path(__file__).with_name("stock.json"), Path(__file__).resolve().parents[2] / "tests" / "surface.json")
NOTES = Path(__file__).with_name("notes")
NOTE = "MarkdownNote"
_VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")  # inputs that are widgets
_AS_GIVEN = "COMFY_MATCHTYPE_V3"  # an output of the type that its node is given


@cache
def records() -> dict[str, dict]:
    """Inputs in order and outputs of every node that a workflow may have, by class."""
    return {k: v for path in RECORDS for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


def widgets(kind: str) -> list[dict[str, Any]]:
    """The inputs of a node that have a widget, in the order in which the editor saves their values."""
    inputs = records()[kind]["inputs"]
    return [entry for entry in inputs if entry["type"].split(",")[0] in _VALUES and not entry.get("socket")]


def own_widgets(node: Node) -> list[dict[str, Any]]:
    return widgets(node.kind) if node.kind in records() else []


@dataclass(frozen=True)
class Out:
    """One output of a node of the same graph."""

    node: int
    slot: int


@dataclass(frozen=True)
class Inlet:
    """What comes into a subgraph from outside."""

    name: str


@dataclass(frozen=True)
class Open:
    """An input that whoever uses the workflow connects."""

    type: str


@dataclass(frozen=True)
class Shown:
    """A value inside a subgraph that the subgraph's node shows as a widget of its own."""

    name: str
    value: Any


@dataclass
class Node:
    id: int
    kind: str  # class; the subgraph's name where `inner` is one
    title: str | None
    inputs: dict[str, Any]
    pos: tuple[int, int]
    size: tuple[int, int]
    inner: Graph | None = None

    @property
    def outputs(self) -> list[str]:
        """Types."""
        if self.inner:
            return [self.inner.type_of(out) for out in self.inner.outs.values()]
        return [entry["type"] for entry in records()[self.kind]["outputs"]] if self.kind in records() else []


@dataclass
class Graph:
    """A workflow under construction: `column(...)` starts a column, `add(...)` puts a node under the last one."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of nodes, inner ones too
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    inlets: dict[str, str] = field(default_factory=dict)  # of a subgraph: their types by name
    outs: dict[str, Out] = field(default_factory=dict)
    panel: dict[str, list] | None = None  # the app that this workflow is: inputs and outputs
    labels: dict[tuple[int, str], str] = field(default_factory=dict)  # what the panel calls a node's widget
    x: int = 0
    y: int = 0
    width: int = COLUMN

    def column(self, title: str | None = None, width: int = COLUMN) -> None:
        """Start the next column; with a title it begins a group, which goes on until the next titled column."""
        self.x += self.width + GAP if self.nodes else 0
        self.y, self.width = 0, width
        if title:
            self.groups.append({"title": title, "x": self.x})

    def add(self, kind: str, title: str | None = None, tall: int | None = None, **inputs) -> list[Out]:
        """Add a node; an `Out` as an input's value is a link. Dots in input names are written as two underscores.

        What is not given has its default, where the record knows one.
        """
        inputs = {name.replace("__", "."): value for name, value in inputs.items()}
        own = widgets(kind) if kind in records() else ()
        defaults = {entry["name"]: entry["default"] for entry in own if "default" in entry}
        return self._put(Node(next(self.numbers), kind, title, {**defaults, **inputs}, (0, 0), (0, 0)), tall)

    def subgraph(self, name: str, describe: Callable[..., dict[str, Out]], **given: Out | Open) -> list[Out]:
        """Add a subgraph. describe: called with a graph and an `Inlet` for each of `given`; says what comes out."""
        inner = Graph(self.numbers, inlets={key: self.type_of(value) for key, value in given.items()})
        number = next(self.numbers)
        inner.outs = describe(inner, **{key: Inlet(key) for key in given})
        return self._put(Node(number, name, name, dict(given), (0, 0), (0, 0), inner))

    def _put(self, node: Node, height: int | None = None) -> list[Out]:
        height = height or height_of(node)
        node.pos, node.size = (self.x, self.y), (self.width, height)
        self.nodes.append(node)
        self.y += height + TITLE + GAP // 2
        return [Out(node.id, slot) for slot in range(len(node.outputs))]

    def note(self, name: str, height: int) -> None:
        """The text of notes/`name`.md; `{files}` in it becomes the list of model files that the workflow loads."""
        text = (NOTES / f"{name}.md").read_text(encoding="utf-8").strip()
        self.add(NOTE, "Read me", height, text=text)

    def app(self, inputs: list[tuple[str, str, str]], outputs: list[str]) -> None:
        """Make an app of it: a panel with these widgets, (node's title, widget, label), and these nodes' results."""
        titled = {node.title: node.id for node in self.nodes}
        self.panel = {"inputs": [[titled[t], w] for t, w, _ in inputs], "outputs": [titled[t] for t in outputs]}
        self.labels = {(titled[t], w): label for t, w, label in inputs}

    def node(self, number: int) -> Node:
        return next(node for node in self.nodes if node.id == number)

    def type_of(self, value: Out | Inlet | Open) -> str:
        if isinstance(value, Open):
            return value.type
        if isinstance(value, Inlet):
            return self.inlets[value.name]
        node = self.node(value.node)
        kind = node.outputs[value.slot]
        if kind != _AS_GIVEN:
            return kind
        return self.type_of(next(given for given in node.inputs.values() if isinstance(given, Out | Inlet)))

    def shown(self) -> list[tuple[Node, str, Shown]]:
        """(node, its input, what it shows) for what this subgraph's node has as widgets; one widget may set several."""
        found = {}
        for node in self.nodes:
            for name, value in node.inputs.items():
                if isinstance(value, Shown):
                    found.setdefault(value.name, (node, name, value))
        return list(found.values())

    def widget_inlets(self) -> dict[str, str]:
        """Inlets that lead to an input with a widget, which the subgraph's node therefore has, too: name -> type."""
        found = {}
        for node in self.nodes:
            own = node.inner.widget_inlets() if node.inner else {e["name"]: e["type"] for e in own_widgets(node)}
            found |= {v.name: own[k] for k, v in node.inputs.items() if isinstance(v, Inlet) and k in own}
        return {name: found[name] for name in self.inlets if name in found}

    def everywhere(self) -> Iterator[Node]:
        """Its nodes and those inside its subgraphs."""
        for node in self.nodes:
            yield node
            if node.inner:
                yield from node.inner.everywhere()

    def api(self, prefix: str = "", given: dict[str, list] | None = None) -> dict:
        """The graph as POST /prompt takes it; nodes of a subgraph are numbered <its node>:<their own>."""
        made = {}
        for node in self.nodes:
            inputs = {name: self._api_value(value, prefix, given or {}) for name, value in node.inputs.items()}
            if node.inner:
                made |= node.inner.api(f"{prefix}{node.id}:", inputs)
            elif node.kind != NOTE:
                title = {"title": node.title or node.kind}
                made[f"{prefix}{node.id}"] = {"class_type": node.kind, "inputs": inputs, "_meta": title}
        return made

    def _api_value(self, value: Any, prefix: str, given: dict[str, list]) -> Any:
        if isinstance(value, Inlet):
            return given[value.name]
        if isinstance(value, Shown):
            return value.value
        return self._api_link(value, prefix) if isinstance(value, Out) else value

    def _api_link(self, out: Out, prefix: str) -> list:
        node = self.node(out.node)
        if node.inner:
            return node.inner._api_link(list(node.inner.outs.values())[out.slot], f"{prefix}{node.id}:")
        return [f"{prefix}{node.id}", out.slot]

"""A graph as the editor saves it: sockets, links, widgets, groups, and the subgraphs' definitions."""

from __future__ import annotations

import uuid
from typing import Any

from .files import FILES, listed
from .graph import NOTE, Graph, Inlet, Node, Open, Out, Shown, widgets
from .sizes import GAP, TITLE

PACK_ID = "det-motion-transfer"  # the registry's name of this pack, as in pyproject.toml
INPUT_NODE, OUTPUT_NODE = -10, -20  # stand for a subgraph's inputs and outputs in its links
_EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "COMBO": ""}  # of a widget that is linked
_NAMESPACE = uuid.UUID("6b1c8d0e-0c1f-4c55-9d0e-5a3c0f6f0b11")


def blueprint(graph: Graph, name: str, description: str) -> dict:
    """The file of a graph that is one subgraph alone, which the editor offers as a node."""
    made = ui(graph, name)
    made["definitions"]["subgraphs"][-1] |= {"category": "DeT", "description": description}
    return made


def ui(graph: Graph, name: str) -> dict:
    """The whole file. name: of the workflow; ids are made from it."""
    inside = [node for node in graph.everywhere() if node.inner]
    drawn = _Drawn(graph, name)
    files = listed(sorted({v for node in graph.everywhere() for v in _values(node) if v in FILES}))
    for entry in drawn.nodes:
        if entry["type"] == NOTE:
            entry["widgets_values"] = [entry["widgets_values"][0].replace("{files}", files)]
    extra = {"linearMode": True, "linearData": graph.panel} if graph.panel else {}
    made = {
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "revision": 0,
        "last_node_id": max(node.id for node in graph.everywhere()),
        "last_link_id": len(drawn.links),
        "nodes": drawn.nodes,
        "links": [list(link.values()) for link in drawn.links],
        "groups": drawn.groups(),
        "config": {},
        "extra": extra,
        "version": 0.4,
    }
    if inside:
        made["definitions"] = {"subgraphs": [_definition(node, name) for node in inside]}
    return made


def _values(node: Node) -> list:
    values = [v.value if isinstance(v, Shown) else v for v in node.inputs.values()]
    return [value for value in values if isinstance(value, str)]


def _id(node: Node, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{name}/{node.id} {node.kind}"))


def _definition(node: Node, name: str) -> dict:
    """A subgraph's entry of `definitions`."""
    inner = node.inner
    drawn = _Drawn(inner, name)
    height = max(n.pos[1] + n.size[1] for n in inner.nodes)
    right = max(n.pos[0] + n.size[0] for n in inner.nodes) + 80
    inputs = [(key, kind, None) for key, kind in inner.inlets.items()]
    inputs += [(s.name, _widget_type(n, key), s) for n, key, s in inner.shown()]

    def socket(side: str, number: int, key: str, kind: str, links: list[int]) -> dict:
        x = -80 if side == "in" else right + 20
        own = str(uuid.uuid5(_NAMESPACE, f"{name}/{node.id}/{side}/{key}"))
        return {"id": own, "name": key, "type": kind, "linkIds": links, "label": key, "pos": [x, 24 + 20 * number]}

    return {
        "id": _id(node, name),
        "version": 1,
        "state": {
            "lastGroupId": len(drawn.groups()),
            "lastNodeId": max(n.id for n in inner.everywhere()),
            "lastLinkId": len(drawn.links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": node.kind,
        "inputNode": {"id": INPUT_NODE, "bounding": [-220, 0, 160, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right, 0, 160, min(height, 40 + 20 * len(inner.outs))]},
        "inputs": [socket("in", i, key, kind, drawn.of_input.get(key, [])) for i, (key, kind, _) in enumerate(inputs)],
        "outputs": [
            socket("out", i, key, inner.type_of(out), [drawn.of_output[key]])
            for i, (key, out) in enumerate(inner.outs.items())
        ],
        "widgets": [],
        "nodes": drawn.nodes,
        "groups": drawn.groups(),
        "links": drawn.links,
        "extra": {},
    }


def _widget_type(node: Node, name: str) -> str:
    return next(entry["type"] for entry in widgets(node.kind) if entry["name"] == name)


class _Drawn:
    """The nodes and links of one graph or subgraph. of_input, of_output: link ids of the subgraph's own sockets."""

    def __init__(self, graph: Graph, name: str):
        self.graph, self.name = graph, name
        self.links: list[dict] = []
        self.outgoing: dict[tuple[int, int], list[int]] = {}
        self.incoming: dict[int, list[dict]] = {node.id: [] for node in graph.nodes}
        self.of_input: dict[str, list[int]] = {}
        self.of_output: dict[str, int] = {}
        names = [*graph.inlets, *(shown.name for _, _, shown in graph.shown())]
        for node in graph.nodes:
            for key, value in node.inputs.items():
                if isinstance(value, Open):
                    self.incoming[node.id].append({"name": key, "type": value.type, "link": None})
                elif isinstance(value, (Out, Inlet, Shown)):
                    self._join(node, key, value, names)
            if node.inner:
                for inner, key, shown in node.inner.shown():
                    socket = {"name": shown.name, "type": _widget_type(inner, key), "widget": {"name": shown.name}}
                    self.incoming[node.id].append({**socket, "link": None})
            self._label(node)
        for slot, (key, out) in enumerate(graph.outs.items()):
            link = self._link(out.node, out.slot, OUTPUT_NODE, slot, graph.type_of(out))
            self.outgoing.setdefault((out.node, out.slot), []).append(link)
            self.of_output[key] = link
        self.nodes = [self._node(order, node) for order, node in enumerate(graph.nodes)]

    def _link(self, origin: int, slot: int, target: int, target_slot: int, kind: str) -> int:
        number = len(self.links) + 1
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        self.links.append(dict(zip(keys, (number, origin, slot, target, target_slot, kind), strict=True)))
        return number

    def _join(self, node: Node, key: str, value: Out | Inlet | Shown, names: list[str]) -> None:
        kind = _widget_type(node, key) if isinstance(value, Shown) else self.graph.type_of(value)
        origin = (value.node, value.slot) if isinstance(value, Out) else (INPUT_NODE, names.index(value.name))
        link = self._link(*origin, node.id, len(self.incoming[node.id]), kind)
        socket: dict[str, Any] = {"name": key, "type": kind, "link": link}
        if key in (node.inner.widget_inlets() if node.inner else [entry["name"] for entry in widgets(node.kind)]):
            socket["widget"] = {"name": key}
        self.incoming[node.id].append(socket)
        if isinstance(value, Out):
            self.outgoing.setdefault(origin, []).append(link)
        else:
            self.of_input.setdefault(value.name, []).append(link)

    def _label(self, node: Node) -> None:
        """The panel's names of this node's widgets, as names of their sockets."""
        labels = {key: label for (number, key), label in self.graph.labels.items() if number == node.id}
        present = {socket["name"]: socket for socket in self.incoming[node.id]}
        for key, label in labels.items():
            if key not in present:
                present[key] = {"name": key, "type": _widget_type(node, key), "widget": {"name": key}, "link": None}
                self.incoming[node.id].append(present[key])
            present[key]["label"] = label

    def _node(self, order: int, node: Node) -> dict:
        types = [self.graph.type_of(Out(node.id, slot)) for slot in range(len(node.outputs))]
        names = list(node.inner.outs) if node.inner else types
        entry = {
            "id": node.id,
            "type": _id(node, self.name) if node.inner else node.kind,
            "pos": list(node.pos),
            "size": list(node.size),
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": self.incoming[node.id],
            "outputs": [
                {"name": name, "type": kind, "links": self.outgoing.get((node.id, slot), [])}
                for slot, (name, kind) in enumerate(zip(names, types, strict=True))
            ],
            "properties": _properties(node),
            "widgets_values": _widget_values(node),
        }
        if node.title:
            entry["title"] = node.title
        if node.kind == NOTE:
            entry |= {"properties": {}, "color": "#432", "bgcolor": "#653"}
        return entry

    def groups(self) -> list[dict]:
        """The titled columns as frames around their nodes."""
        graph, made = self.graph, []
        ends = [*(group["x"] for group in graph.groups), graph.x + graph.width + GAP][1:]
        for number, (group, end) in enumerate(zip(graph.groups, ends, strict=True)):
            bottom = max(n.pos[1] + n.size[1] for n in graph.nodes if group["x"] <= n.pos[0] < end)
            bounding = [group["x"] - 10, -TITLE - 40, end - group["x"] - GAP + 20, bottom + TITLE + 50]
            look = {"color": "#3f789e", "font_size": 24, "flags": {}}
            made.append({"id": number + 1, "title": group["title"], "bounding": bounding, **look})
        return made


def _properties(node: Node) -> dict:
    if node.inner:
        return {}
    own = node.kind.startswith(("DeT", "FYM"))
    made = {"Node name for S&R": node.kind, "cnr_id": PACK_ID if own else "comfy-core"}
    models = [FILES[value].entry(value) for value in _values(node) if value in FILES]
    return {**made, "models": models} if models else made


def _widget_values(node: Node) -> list:
    if node.kind == NOTE:
        return [node.inputs["text"]]
    if node.inner:
        linked = [_EMPTY[kind.split(",")[0]] for kind in node.inner.widget_inlets().values()]
        return linked + [shown.value for _, _, shown in node.inner.shown()]
    values = []
    for entry in widgets(node.kind):
        value = node.inputs.get(entry["name"])
        value = value.value if isinstance(value, Shown) else value
        values.append(_EMPTY[entry["type"].split(",")[0]] if isinstance(value, (Out, Inlet)) else value)
        if entry.get("seed"):
            values.append("fixed")  # the editor puts one more widget after it, its control
    return values

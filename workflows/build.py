"""Write every workflow, for the editor (workflows/*.json) and for queueing over HTTP (workflows/api/*.json), from one
description.

    python workflows/build.py

Nothing here is read by ComfyUI; the JSON files are. `tests/comfy` checks that both forms of a workflow are the same
graph."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACK_ID = "comfyui-det"
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

# Widgets of each node in the order of its schema. After a seed of this name the editor puts one more, its control.
SEEDS = {"seed"}
WIDGETS = {
    "CLIPLoader": ["clip_name", "type", "device"],
    "CLIPTextEncode": ["text"],
    "CreateVideo": ["fps", "bit_depth"],
    "DeTApplyMotionAdapter": ["strength", "drop_fraction", "blocks", "start_percent", "end_percent"],
    "DeTEmptyStepVideoLatent": ["width", "height", "frames", "batch_size"],
    "DeTEvaluateMotion": ["variant"],
    "DeTGuideMotion": ["strength", "guide_by", "updates", "end_percent", "block", "gradient_checkpointing"],
    "DeTLoadDiT": ["model_name", "weight_dtype"],
    "DeTLoadMotionAdapter": ["name"],
    "DeTLoadStepVideoText": ["folder"],
    "DeTLoadStepVideoVAE": ["vae_name"],
    "DeTSaveMotionAdapter": ["name", "overwrite", "caption"],
    "DeTTinyClip": ["motion", "colour", "shape", "background", "pattern", "clip_seed"],
    "DeTTinyModel": [],
    "DeTTrackVideo": ["points", "tracker", "point_seed"],
    "DeTTrainMotionAdapter": [
        "steps",
        "learning_rate",
        "tracking_weight",
        "train_seed",
        "run_name",
        "resume",
        "gradient_checkpointing",
        "preview_every",
        "mid_dim",
        "kernel_size",
    ],
    "DualCLIPLoader": ["clip_name1", "clip_name2", "type", "device"],
    "EmptyHunyuanLatentVideo": ["width", "height", "length", "batch_size"],
    "FluxGuidance": ["guidance"],
    "FYMClassifyHeads": ["rule", "draws", "noise_level", "head_seed"],
    "FYMTrainMotionLoRA": [
        "spatial_steps",
        "temporal_steps",
        "learning_rate",
        "rank",
        "sparse_frames",
        "train_seed",
        "run_name",
        "resume",
        "gradient_checkpointing",
        "preview_every",
        "motion_loss",
        "frame_spacing",
    ],
    "GetVideoComponents": [],
    "ImageFromBatch": ["batch_index", "length"],
    "ImageScale": ["upscale_method", "width", "height", "crop"],
    "ImageStitch": ["direction", "match_image_size", "spacing_width", "spacing_color"],
    "KSampler": ["seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"],
    "LoadVideo": ["file"],
    "LoraModelLoader": ["strength_model", "bypass"],
    "LossGraphNode": ["filename_prefix"],
    "ModelSamplingSD3": ["shift"],
    "SaveImage": ["filename_prefix"],
    "SaveLoRA": ["prefix", "steps"],
    "SaveVideo": ["filename_prefix", "format", "format.codec"],
    "VAEDecode": [],
    "VAEDecodeTiled": ["tile_size", "overlap", "temporal_size", "temporal_overlap"],
    "VAEEncode": [],
    "VAEEncodeTiled": ["tile_size", "overlap", "temporal_size", "temporal_overlap"],
    "VAELoader": ["vae_name"],
}
OUTPUTS = {
    "CLIPLoader": ["CLIP"],
    "CLIPTextEncode": ["CONDITIONING"],
    "CreateVideo": ["VIDEO"],
    "DeTApplyMotionAdapter": ["MODEL"],
    "DeTEmptyStepVideoLatent": ["LATENT"],
    "DeTEvaluateMotion": ["FLOAT", "IMAGE", "STRING"],
    "DeTGuideMotion": ["MODEL"],
    "DeTLoadDiT": ["MODEL"],
    "DeTLoadMotionAdapter": ["DET_ADAPTER", "STRING"],
    "DeTLoadStepVideoText": ["CLIP"],
    "DeTLoadStepVideoVAE": ["VAE"],
    "DeTSaveMotionAdapter": ["STRING"],
    "DeTTinyClip": ["IMAGE", "STRING"],
    "DeTTinyModel": ["MODEL", "CLIP", "VAE"],
    "DeTTrackVideo": ["TRACKS", "IMAGE"],
    "DeTTrainMotionAdapter": ["DET_ADAPTER", "LOSS_MAP"],
    "DualCLIPLoader": ["CLIP"],
    "EmptyHunyuanLatentVideo": ["LATENT"],
    "FYMClassifyHeads": ["FYM_HEADS", "IMAGE"],
    "FYMTrainMotionLoRA": ["LORA_MODEL", "LORA_MODEL", "LOSS_MAP"],
    "FluxGuidance": ["CONDITIONING"],
    "GetVideoComponents": ["IMAGE", "AUDIO", "FLOAT", "INT", "COMBO"],
    "ImageFromBatch": ["IMAGE"],
    "ImageScale": ["IMAGE"],
    "ImageStitch": ["IMAGE"],
    "KSampler": ["LATENT"],
    "LoadVideo": ["VIDEO"],
    "LoraModelLoader": ["MODEL"],
    "LossGraphNode": [],
    "ModelSamplingSD3": ["MODEL"],
    "SaveImage": [],
    "SaveLoRA": [],
    "SaveVideo": ["VIDEO"],
    "VAEDecode": ["IMAGE"],
    "VAEDecodeTiled": ["IMAGE"],
    "VAEEncode": ["LATENT"],
    "VAEEncodeTiled": ["LATENT"],
    "VAELoader": ["VAE"],
}


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
        """Add a node; an `Out` as an input's value is a link. Dots in input names are written as two underscores."""
        number = len(self.nodes) + 1
        inputs = {name.replace("__", "."): value for name, value in inputs.items()}
        height = _height(kind, inputs)
        if self.y and self.y + height > HIGHEST:
            self.column()
        self.nodes.append(
            {"id": number, "type": kind, "title": title, "inputs": inputs, "pos": (self.x, self.y), "height": height}
        )
        self.y += height + ROW
        return [Out(number, slot) for slot in range(len(OUTPUTS.get(kind, ["NOTE"])))]

    def note(self, text: str) -> None:
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
        links, outgoing, nodes = [], {}, []
        types = {node["id"]: OUTPUTS.get(node["type"], []) for node in self.nodes}
        incoming: dict[int, list] = {}
        for node in self.nodes:
            for name, value in node["inputs"].items():
                if isinstance(value, Out):
                    kind = types[value.node][value.slot]
                    link = [
                        len(links) + 1,
                        value.node,
                        value.slot,
                        node["id"],
                        len(incoming.setdefault(node["id"], [])),
                        kind,
                    ]
                    links.append(link)
                    slot = {"name": name, "type": kind, "link": link[0]}
                    if name in WIDGETS[node["type"]]:
                        slot["widget"] = {"name": name}
                    incoming[node["id"]].append(slot)
                    outgoing.setdefault((value.node, value.slot), []).append(link[0])
        for order, node in enumerate(self.nodes):
            width = WIDTHS.get(node["type"], 340)
            entry = {
                "id": node["id"],
                "type": node["type"],
                "pos": list(node["pos"]),
                "size": [width, node["height"]],
                "flags": {},
                "order": order,
                "mode": 0,
                "inputs": incoming.get(node["id"], []),
                "outputs": [
                    {"name": kind, "type": kind, "links": outgoing.get((node["id"], slot), [])}
                    for slot, kind in enumerate(types[node["id"]])
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
            nodes.append(entry)
        groups = []
        ends = [*(group["x"] for group in self.groups[1:]), self.x + COLUMN]
        for number, (group, end) in enumerate(zip(self.groups, ends, strict=True)):
            bottom = max(n["pos"][1] + n["height"] for n in self.nodes if group["x"] <= n["pos"][0] < end)
            bounding = [group["x"] - 20, -70, end - group["x"] - 20, bottom + 90]
            groups.append(
                {
                    "id": number + 1,
                    "title": group["title"],
                    "bounding": bounding,
                    "color": "#3f789e",
                    "font_size": 24,
                    "flags": {},
                }
            )
        return {
            "id": "00000000-0000-0000-0000-000000000000",
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": links,
            "groups": groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    @staticmethod
    def _widgets(node: dict) -> list:
        if node["type"] == "MarkdownNote":
            return [node["inputs"]["text"]]
        values = []
        for name in WIDGETS[node["type"]]:
            value = node["inputs"].get(name)
            values.append("" if isinstance(value, Out) else value)
            if name in SEEDS:
                values.append("fixed")
        return values


def _height(kind: str, inputs: dict) -> int:
    if kind in HEIGHTS:
        return HEIGHTS[kind]
    widgets = WIDGETS[kind]
    sockets = max(len(OUTPUTS[kind]), sum(name not in widgets for name in inputs))
    return SLOT * sockets + WIDGET * (len(widgets) + len(SEEDS.intersection(widgets))) + MARGIN


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def all_graphs() -> dict[str, tuple[str, Callable[[Graph], None]]]:
    """File name for scripts (workflows/api) -> (name in the template browser, graph)."""
    from graphs import GRAPHS
    from graphs_fym import FYM_GRAPHS
    from graphs_guidance import GUIDANCE_GRAPHS

    return {**GRAPHS, **GUIDANCE_GRAPHS, **FYM_GRAPHS}


def main() -> None:
    for name, (title, build) in all_graphs().items():
        graph = Graph()
        build(graph)
        write(HERE / f"{title}.json", graph.ui())
        write(HERE / "api" / f"{name}.json", graph.api())


if __name__ == "__main__":
    sys.modules["build"] = sys.modules["__main__"]  # the graphs import this file by its name
    main()

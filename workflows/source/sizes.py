"""How much room nodes take in the editor, in both of its renderings: the classic canvas and Nodes 2.0."""

from __future__ import annotations

COLUMN, GAP = 310, 24  # pixels: width of a column, space around nodes
TITLE = 30  # a node's title stands above its position
SLOT, WIDGET, MARGIN = 20, 28, 38  # that a row of sockets, a widget, and the frame of a node take in Nodes 2.0
# Nodes with more than sockets and one-line widgets: texts, and the pictures and videos that they show when they ran.
HEIGHTS = {
    "CLIPTextEncode": 120,
    "CreateVideo": 110,
    "DeTEvaluateMotion": 440,
    "DeTApplyMotionAdapter": 236,
    "DeTSaveMotionAdapter": 236,
    "DeTTrackVideo": 330,
    "DeTTrainMotionAdapter": 850,
    "DeTCompareVideos": 390,
    "FYMClassifyHeads": 300,
    "FYMSaveMotionLoRA": 124,
    "FYMTrainMotionLoRA": 780,
    "LoadImage": 330,
    "LoadVideo": 350,
    "LossGraphNode": 300,
    "MarkdownNote": 340,
    "PreviewImage": 300,
    "SaveVideo": 290,
}


def height_of(node) -> int:
    """The height that a node is given."""
    from .graph import records, widgets

    if node.kind in HEIGHTS:
        return HEIGHTS[node.kind]
    if node.inner:
        rows = max(len(node.outputs), len(node.inputs) - len(node.inner.widget_inlets()))
        texts = sum({"prompt": 100, "value": 40}.get(name, 0) for _, name, _ in node.inner.shown())
        texts += sum(40 for kind in node.inner.widget_inlets().values() if kind == "STRING")
        values = len(node.inner.shown()) + len(node.inner.widget_inlets())
        return SLOT * rows + WIDGET * values + MARGIN + texts
    own = widgets(node.kind)
    names, seeds = {entry["name"] for entry in own}, sum(entry.get("seed", False) for entry in own)
    sockets = max(len(records()[node.kind]["outputs"]), sum(name not in names for name in node.inputs))
    return SLOT * sockets + WIDGET * (len(own) + seeds) + MARGIN

"""Pictures of the report: the scatter of edit fidelity against motion fidelity, and strips of frames with tracks."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch
import torch.nn.functional as F

from ..tracking.tracks import Tracks
from .layout import Case
from .tables import case_means
from .units import Unit

PALETTE = ("#57606a", "#9a9a9a", "#d9822b", "#1f77b4", "#2ca02c", "#9467bd", "#17a2b8", "#b5495b")
STRIP_SIDE_PX = 256  # short side at which tracks are drawn into a strip
STRIP_COLUMNS, STRIP_CELL_PX = 6, 176


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per method."""
    return {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(methods)}


def scatter(results: Sequence[dict], methods: Sequence[str]) -> str | None:
    """SVG of the paper's Fig. 2: a small dot per case, a large one per method's mean; None without both metrics."""
    points = {}
    for method in methods:
        x, y = (case_means(results, method, metric) for metric in ("motion_fidelity", "edit_fidelity"))
        both = [(x[case], y[case]) for case in x if case in y]
        if both:
            points[method] = both
    if not points:
        return None
    width, height, left, right, top, bottom = 640, 400, 62, 130, 16, 48
    flat = [p for both in points.values() for p in both]
    (x0, x1, x_ticks), (y0, y1, y_ticks) = (_axis([p[i] for p in flat]) for i in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x0) / (x1 - x0) * (width - left - right),
            height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom),
        )

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="edit fidelity against motion fidelity">',
        f'<rect x="{left}" y="{top}" width="{width - left - right}" height="{height - top - bottom}" class="frame"/>',
    ]
    for value in x_ticks:
        x, _ = place(value, y0)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{value:g}</text>')
    for value in y_ticks:
        _, y = place(x0, value)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">motion fidelity</text>')
    parts.append(
        f'<text transform="translate(14 {(height - bottom) / 2}) rotate(-90)" text-anchor="middle">edit fidelity</text>'
    )
    colour = colours(methods)
    for method, both in points.items():
        for x, y in (place(*p) for p in both):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour[method]}" opacity="0.45"/>')
    for row, (method, both) in enumerate(points.items()):
        x, y = place(sum(p[0] for p in both) / len(both), sum(p[1] for p in both) / len(both))
        fill = colour[method]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{fill}" stroke="white" stroke-width="2"/>')
        key_x, key_y = width - right + 18, top + 14 + row * 22
        parts.append(f'<circle cx="{key_x}" cy="{key_y}" r="6" fill="{fill}"/>')
        parts.append(f'<text x="{key_x + 13}" y="{key_y + 4}">{escape(method)}</text>')
    return "\n".join([*parts, "</svg>"])


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Limits around the values and round ticks between them."""
    low, high = min(values), max(values)
    room = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-3) * 0.08
    low, high = low - room, high + room
    rough = (high - low) / 5
    scale = 10 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= rough)
    ticks = [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return low, high, ticks


def strip(case: Case, units: Sequence[Unit], out: Path) -> str | None:
    """The source and each unit's video as rows of frames with tracks, a JPEG as data: URI; None without any video."""
    from ..media.video import read_video
    from ..tracking.draw import contact_sheet

    videos = [(unit, unit.folder(out) / "video.mp4") for unit in units]
    videos = [(unit, path) for unit, path in videos if path.is_file()]
    if not videos:
        return None
    tracks = None if case.tracks is None else Tracks.load(case.tracks)
    rows = [(f"source: {case.caption}", _drawn(read_video(case.video).frames, tracks))]
    for unit, path in videos:
        stored = path.with_name("tracks.safetensors")
        tracks = Tracks.load(stored) if stored.is_file() else None
        rows.append((f"{unit.method}: {unit.prompt} (seed {unit.seed})", _drawn(read_video(path).frames, tracks)))
    sheet = contact_sheet(rows, STRIP_COLUMNS, STRIP_CELL_PX)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _drawn(frames: torch.Tensor, tracks: Tracks | None) -> torch.Tensor:
    from ..tracking.draw import draw_tracks

    short = min(frames.shape[1:3])
    if short > STRIP_SIDE_PX:
        size = [round(side * STRIP_SIDE_PX / short) for side in frames.shape[1:3]]
        smaller = F.interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
        frames = smaller.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return frames if tracks is None or tracks.frames != len(frames) else draw_tracks(frames, tracks)

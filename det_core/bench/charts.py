"""Pictures of reports: the scatter of edit fidelity against motion fidelity, and strips of frames with tracks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..media.video import read_video
from ..tracking.draw import contact_sheet, draw_tracks
from ..tracking.tracks import Tracks
from .layout import Case
from .tables import case_means
from .units import Unit

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

PALETTE = """
#57606a #d9822b #1f77b4 #2ca02c #9467bd #17a2b8 #b5495b #8c564b #e377c2 #bcbd22 #1f4e79 #a0a7af #f2b880 #7fb6e0 #8fd18f
#c9b3e6
""".split()
STRIP_SIDE_PX = 256  # short side at which tracks are drawn into a strip
STRIP_COLUMNS, STRIP_CELL_PX = 6, 176


@dataclass(frozen=True)
class Spot:
    """One method in the scatter, as (motion fidelity, edit fidelity): its mean, a small dot a case, and how far an
    interval reaches below and above the mean in each direction."""

    name: str
    mean: tuple[float, float]
    cases: Sequence[tuple[float, float]] = ()
    reach: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))


def spots_of(results: Sequence[dict], methods: Sequence[str]) -> list[Spot]:
    """The methods that have both metrics on some case."""
    spots = []
    for method in methods:
        x, y = (case_means(results, method, metric) for metric in ("motion_fidelity", "edit_fidelity"))
        both = [(x[case], y[case]) for case in x if case in y]
        if both:
            spots.append(Spot(method, tuple(torch.tensor(both, dtype=torch.float64).mean(0).tolist()), both))
    return spots


def scatter(spots: Sequence[Spot], title: str = "") -> Figure:
    """The paper's Fig. 2, which is better up and to the right. `savefig` writes it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.7), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="motion fidelity", ylabel="edit fidelity", title=title)
    axes.grid(color="#eaeef2")
    axes.spines[:].set_color("#8b949e")
    for spot, colour in zip(spots, cycle(PALETTE), strict=False):
        for x, y in spot.cases:
            axes.plot(x, y, "o", color=colour, markersize=4, alpha=0.45, zorder=2)
        across, up = ([[below], [above]] for below, above in spot.reach)
        style = {"markersize": 10, "markeredgecolor": "white", "elinewidth": 1, "zorder": 3}
        axes.errorbar(*spot.mean, up, across, "o", color=colour, label=spot.name, **style)
    figure.legend(loc="outside right upper", frameon=False, handlelength=1, handler_map=_dots_only())
    return figure


def _dots_only() -> dict:
    """Legend entries without the error bars, which a key would only make taller."""
    from matplotlib.container import ErrorbarContainer
    from matplotlib.legend_handler import HandlerErrorbar

    return {ErrorbarContainer: HandlerErrorbar(xerr_size=0, yerr_size=0)}


def as_svg(figure: Figure) -> str:
    """A figure as the element <svg> of a page; the same figure gives the same text."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "det"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def strip(case: Case, units: Sequence[Unit], out: Path) -> str | None:
    """The source and each unit's video as rows of frames with tracks, a JPEG as data: URI; None without any video."""
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
    short = min(frames.shape[1:3])
    if short > STRIP_SIDE_PX:
        size = [round(side * STRIP_SIDE_PX / short) for side in frames.shape[1:3]]
        smaller = F.interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
        frames = smaller.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return frames if tracks is None or tracks.frames != len(frames) else draw_tracks(frames, tracks)

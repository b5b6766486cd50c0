"""A picture of each measurement: bars of what was compared, with their numbers."""

from __future__ import annotations

from html import escape

ROW, LABEL, BAR, NUMBER = 22, 260, 330, 250
COLOURS = {"literal": "#9a9a9a", "ours": "#1f77b4", "matrix products": "#2ca02c"}

Group = tuple[str, list[tuple[str, float, str]]]  # title, rows of (label, value, text)


def picture(part: str, result: dict) -> str:
    """SVG of a part's result."""
    return bars(*{"kernel": _kernel, "step": _step, "scaling": _scaling, "memory": _memory}[part](result))


def bars(title: str, groups: list[Group]) -> str:
    """Horizontal bars; every group has a scale of its own, from zero."""
    width, y, parts = LABEL + BAR + NUMBER, 34, []
    for name, rows in groups:
        largest = max((value for _, value, _ in rows), default=0) or 1
        parts.append(f'<text x="8" y="{y + 14}" font-weight="bold">{escape(name)}</text>')
        y += ROW
        for label, value, text in rows:
            fill = next((c for key, c in COLOURS.items() if label.startswith(key)), "#57606a")
            parts.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
            length = BAR * value / largest
            parts.append(f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" fill="{fill}"/>')
            parts.append(f'<text x="{LABEL + length + 6:.1f}" y="{y + 14}">{escape(text)}</text>')
            y += ROW
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" font-family="sans-serif" font-size="12">'
    box = f'<rect width="{width}" height="{y}" fill="white"/>'
    caption = f'<text x="8" y="20" font-size="14">{escape(title)}</text>'
    return "\n".join([head, box, caption, *parts, "</svg>"]) + "\n"


def _milliseconds(seconds: dict) -> tuple[float, str]:
    value = 1000 * seconds["median"]
    return value, f"{_short(value)} ms"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _kernel(result: dict) -> tuple[str, list[Group]]:
    groups = []
    for row in result["rows"]:
        for what, seconds in row["seconds"].items():
            bars_of = [(name, *_milliseconds(s)) for name, s in seconds.items()]
            model, grid = row["shape"].split(",")[0], "x".join(map(str, row["grid"]))
            groups.append((f"widths of {model}, {grid} tokens, {row['dtype']}, {what}", bars_of))
    return "Temporal kernel, median time", groups


def _step(result: dict) -> tuple[str, list[Group]]:
    sampling = {k: v for k, v in result["sampling"].items() if isinstance(v, dict)}
    groups = [
        (name, [(way, *_milliseconds(s)) for way, s in ways.items()])
        for name, ways in (("training step", result["training"]), ("sampling step", sampling))
    ]
    return f"{result['model']}, median time", groups


def _scaling(result: dict) -> tuple[str, list[Group]]:
    groups: dict[str, list] = {}
    for row in result["rows"]:
        value, text = _milliseconds(row["seconds"])
        name = "tokens" if row["sweep"] == "side" else row["sweep"]
        at = row["tokens"] if name == "tokens" else row[row["sweep"]]
        groups.setdefault(name, []).append(
            (str(at), value, f"{text}; by its arithmetic {_short(1000 * row['predicted'])}")
        )
    return f"Training step of a CogVideoX of width {result['dim']}", list(groups.items())


def _memory(result: dict) -> tuple[str, list[Group]]:
    rows = []
    for row in result["rows"]:
        peak = row["peak_bytes"]
        text = "out of memory" if peak is None else f"{peak / 2**20:.0f} MB; estimate {row['estimated'] / 2**20:.0f}"
        rows.append((f"{row['adapter']}, checkpointing {row['policy']}", (peak or 0) / 2**20, text))
    kept = [
        (f"{row['blocks']} blocks", row["bytes"] / 2**20, f"{row['bytes'] / 2**20:.2f} MB") for row in result["adapter"]
    ]
    return f"{result['model']}: peak memory beside the weights", [
        ("training step", rows),
        ("adapter in sampling", kept),
    ]

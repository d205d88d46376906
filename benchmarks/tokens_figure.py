"""The figure of benchmarks/tokens.py: time and memory of a step over visual tokens, log-log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

LARGEST = 4  # points of a curve that its slope is fitted over
# Colours that also the colour-blind tell apart (Okabe and Ito).
STYLES: dict[str, tuple[str, str, str, str]] = {
    "mamba recomputed": ("Mamba 2.8B, blocks recomputed", "#0072B2", "-", "o"),
    "mamba kept": ("Mamba 2.8B", "#0072B2", "--", "s"),
    "mamba recomputed cmi": ("Mamba 2.8B with CMI, recomputed", "#009E73", ":", "^"),
    "mamba recomputed cmi compressed": ("the same, CMI leaves 96 tokens", "#E69F00", ":", "v"),
    "transformer recomputed": ("transformer 2.8B, blocks recomputed", "#D55E00", "-", "o"),
    "transformer kept": ("transformer 2.8B", "#D55E00", "--", "s"),
}
PANELS = (
    ("ms", "time of a step (ms)"),
    ("peak_gib", "peak memory (GiB)\nslopes: less the weights"),
)


def slopes(document: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each curve, how time and memory grow: exponents fitted over its largest lengths.

    Memory is taken without the weights, which are there before the first step.
    """
    fitted: dict[str, dict[str, float]] = {}
    for name in {p["curve"]: None for p in document["points"]}:
        points = [p for p in document["points"] if p["curve"] == name and "ms" in p][-LARGEST:]
        if len(points) < 2:
            continue
        lengths = [p["tokens"] + document["text_tokens"] for p in points]
        fitted[name] = {"ms": _slope(lengths, [p["ms"] for p in points])}
        if all("peak_gib" in p for p in points):
            above = [max(p["peak_gib"] - p["base_gib"], 1e-3) for p in points]
            fitted[name]["peak_gib"] = _slope(lengths, above)
    return fitted


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return round(float(np.polyfit(np.log(x), np.log(y), 1)[0]), 2)


def draw(document: dict[str, Any], folder: Path) -> str:
    """Write tokens.png and tokens.svg into the folder; returns their names."""
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({**style, "svg.fonttype": "none", "svg.hashsalt": "tokens"}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for axes, (key, label) in zip(figure.subplots(1, 2), PANELS, strict=True):
            _panel(axes, document, key, label)
        figure.suptitle(
            f"One training step, batch 1, bf16, {document['device']}"
            + (" (tiny shapes: says nothing)" if document["small"] else ""),
            fontsize=10,
        )
        names = ("tokens.png", "tokens.svg")
        figure.savefig(folder / names[0], dpi=200)
        figure.savefig(folder / names[1], metadata={"Date": None})
    return " and ".join(names)


def _panel(axes: Any, document: dict[str, Any], key: str, label: str) -> None:
    lengths = sorted({p["tokens"] for p in document["points"]})
    axes.set(xscale="log", yscale="log", xlabel="visual tokens", ylabel=label)
    axes.set_xticks(lengths, [f"{n:,}" for n in lengths], rotation=40, ha="right")
    axes.minorticks_off()
    axes.grid(alpha=0.3, linewidth=0.5)
    drawn = False
    for name, (title, colour, line, mark) in STYLES.items():
        points = [p for p in document["points"] if p["curve"] == name]
        seen = [p for p in points if key in p]
        if not seen:
            continue
        drawn = True
        slope = document["slopes"].get(name, {}).get(key)
        text = title if slope is None else f"{title}: slope {slope:.2f}"
        x, y = [p["tokens"] for p in seen], [p[key] for p in seen]
        axes.plot(x, y, line, color=colour, marker=mark, markersize=4, linewidth=1.4, label=text)
        ended = len(seen) < len(points) and points[len(seen)].get("note") == "out of memory"
        if ended and key == "peak_gib":
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate("out of memory", (x[-1], y[-1]), color=colour, fontsize=7.5, **place)
    if drawn:
        axes.legend(fontsize=7.5, frameon=False, loc="upper left")
    else:
        axes.text(0.5, 0.5, "measured on GPUs alone", transform=axes.transAxes, ha="center")

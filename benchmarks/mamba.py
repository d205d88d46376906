"""Speed and memory of Mamba here, beside its peers: python benchmarks/mamba.py [--only scan,step].

One run prints one table with ratios and writes results/mamba-<device>.json. Shapes of mamba-2.8b
(64 layers, width 2560, D 5120, N 16, rank 160, bf16), random weights; on a CPU one layer.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from machine import machine, short, short_name
from mamba_model import QUICK, Shapes
from mamba_peers import MAMBAPY, OFFICIAL, TORCH, TRANSFORMERS
from mamba_sections import SECTIONS, Bench, Result

from ctscribe.files import write_atomically

RESULTS = Path(__file__).parent / "results"
PEERS = (TORCH, OFFICIAL, TRANSFORMERS, MAMBAPY)


@dataclass(frozen=True)
class Figure:
    """A figure of the table: what it must be and what it aims at, measured on an H200 in bf16."""

    what: str
    unit: str
    must: float | None
    aim: float | None = None
    more_is_better: bool = False
    # Measured on an H200 on 2026-11-24 by the official CUDA extension, and by transformers alone.
    recorded: tuple[float | None, float | None] = (None, None)


FIGURES = {
    "scan_fwd_b1_l8192_ms": Figure(
        "scan forward, B1 L8192", "ms", 0.60, 0.30, recorded=(0.94, None)
    ),
    "scan_fwdbwd_b4_l2048_ms": Figure(
        "scan forward + backward, B4 L2048", "ms", 1.5, 1.0, recorded=(3.69, None)
    ),
    "scan_fwdbwd_b1_l608_ms": Figure(
        "scan forward + backward, B1 L608", "ms", 0.17, 0.08, recorded=(0.84, None)
    ),
    "step_b1_l608_ms": Figure("stage-2 step, B1 L608", "ms", 26, 15, recorded=(112, 22300)),
    "step_b1_l608_gib": Figure("its memory", "GiB", 7.5, 6.5, recorded=(8.4, 51.6)),
    "step_b4_l608_ms": Figure("stage-2 step, B4 L608", "ms", 78, 55, recorded=(254, None)),
    "step_b4_l608_gib": Figure("its memory", "GiB", 13, 9, recorded=(17.6, None)),
    "step_eager_b1_l608_ms": Figure("the step eager, B1 L608", "ms", 60, 35, recorded=(112, 22300)),
    "decode_b1_tok_s": Figure("decoding, batch 1", "tok/s", 400, 650, True, (23, 16.7)),
    "decode_b16_tok_s": Figure("decoding, batch 16", "tok/s", 3500, 8000, True),
    "prefill_65536": Figure("prompt of 65,536 tokens, a token", "µs", None),
    "bridge_bidir_vs_official": Figure("bridge block, training, official / ours", "x", 2, 3, True),
    "cpu_fwd_vs_transformers": Figure("CPU layer, forward", "x", 5, None, True),
    "cpu_fwdbwd_vs_transformers": Figure("CPU layer, forward + backward", "x", 100, None, True),
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    given = _arguments()
    device = torch.device(given.device)
    wanted = given.only or _default_sections(device, given.quick)
    names = [name for name in SECTIONS if name in wanted]
    transformers.utils.logging.set_verbosity_error()
    bench = Bench(QUICK if given.quick else Shapes(), device, "peers" in wanted)
    path = given.out or (None if given.quick else RESULTS / f"mamba-{short_name(device)}.json")
    figures: dict[str, Any] = {}
    for name in names:
        print(f"measuring: {name}", flush=True)
        SECTIONS[name](bench)
        bench.tidy()
        figures = {
            key: _row(figure, bench.results[key], given.quick)
            for key, figure in FIGURES.items()
            if key in bench.results
        }
        if path is not None:  # after each section: a run that is cut off keeps what it has
            _write(path, device, given.quick, figures)
    print(_table(figures))
    print("quick: nothing is written" if path is None else f"wrote {path}")


def _write(path: Path, device: torch.device, quick: bool, figures: dict[str, Any]) -> None:
    """The JSON; figures of sections that were not measured now stay, if this device made them."""
    document = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(device),
        "quick": quick,
        "recorded": "measured on one H200 on 2026-11-24, bf16",
        "figures": figures,
    }
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if (kept["device"], kept["quick"]) == (document["device"], quick):
            document["figures"] = {**kept["figures"], **figures}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def _arguments() -> argparse.Namespace:
    choices = [*SECTIONS, "peers"]

    def sections(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [n for n in names if n not in choices]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]} is no section: give of {','.join(choices)}"
            )
        return names

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", type=sections, help=f"of {','.join(choices)}; peers: measure them too"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: does everything run?")
    parser.add_argument("--out", type=Path, help="where to write the JSON instead of results/")
    return parser.parse_args()


def _default_sections(device: torch.device, quick: bool) -> list[str]:
    if quick:
        return [*SECTIONS, "peers"]
    if device.type == "cpu":  # a model of 2.8 billion weights is nothing for a CPU
        return ["cpu", "peers"]
    return [name for name in [*SECTIONS, "peers"] if name != "cpu"]


def _row(figure: Figure, result: Result, quick: bool) -> dict[str, Any]:
    """What the JSON holds of one figure; ratios say how many times better we are."""
    value = result.value
    row: dict[str, Any] = {"what": figure.what, "unit": figure.unit, "value": short(value)}
    if figure.must is not None:
        row |= {"must": figure.must, "aim": figure.aim, "met": None}
        if value is not None and not quick:
            good = value >= figure.must if figure.more_is_better else value <= figure.must
            row["met"] = good
    row["peers"] = {name: short(x) for name, x in result.peers.items()}
    row["ratios"] = {
        name: ratio
        for name, x in result.peers.items()
        if (ratio := _ratio(figure, result, x)) is not None
    }
    recorded = dict(zip((OFFICIAL, TRANSFORMERS), figure.recorded, strict=True))
    row["recorded"] = {k: v for k, v in recorded.items() if v is not None}
    row["notes"] = result.notes
    row["more"] = _rounded(result.more)
    return row


def _ratio(figure: Figure, result: Result, peer: float) -> float | None:
    # A figure that is a ratio itself keeps its milliseconds beside it.
    ours = result.more.get("ours_ms") if figure.unit == "x" else result.value
    if not ours or not peer:
        return None
    times = ours / peer if figure.more_is_better and figure.unit != "x" else peer / ours
    return short(times)


def _table(figures: dict[str, Any]) -> str:
    """Markdown: a row a figure, each peer with how many times better we are."""
    head = ["figure", "unit", "ours", "must", "aim", "met", *PEERS, "recorded official"]
    rows = [head, ["---"] * len(head)]
    for row in figures.values():
        cells = [row["what"], row["unit"], _text(row["value"])]
        cells += [_text(row.get("must")), _text(row.get("aim"))]
        cells.append({True: "yes", False: "no", None: "-"}[row.get("met")])
        for peer in PEERS:
            value, ratio = row["peers"].get(peer), row["ratios"].get(peer)
            unit = " ms" if row["unit"] == "x" and value is not None else ""
            times = "" if ratio is None else f" ({_text(ratio)}x)"
            cells.append(f"{_text(value)}{unit}{times}")
        cells.append(_text(row["recorded"].get(OFFICIAL)))
        rows.append(cells)
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    lines = (
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    )
    notes: dict[str, list[str]] = {}
    for key, row in figures.items():
        for name, note in row["notes"].items():
            notes.setdefault(f"{name}: {note}", []).append(key)
    return "\n".join([*lines, *(f"{note} ({', '.join(keys)})" for note, keys in notes.items())])


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return short(value) if isinstance(value, float) else value


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()

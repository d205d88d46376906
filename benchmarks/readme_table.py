"""Fill the figures of Mamba into the READMEs from results/: python benchmarks/readme_table.py.

Figures are never typed: a test holds the READMEs to what the JSON of benchmarks/mamba.py gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
READMES = {"en": REPO / "README.md", "zh": REPO / "README.zh-CN.md"}
BEGIN, END = "<!-- mamba:begin -->\n", "<!-- mamba:end -->\n"
PEERS = ("official", "transformers")

# File, what it is measured in, and the figures by key, in English and Chinese.
TABLES: tuple[tuple[str, str, dict[str, tuple[str, str]]], ...] = (
    (
        "mamba-h200.json",
        "bf16",
        {
            "scan_fwd_b1_l8192_ms": ("scan, forward, B1 L8192", "扫描，前向，B1 L8192"),
            "scan_fwdbwd_b4_l2048_ms": (
                "scan, forward + backward, B4 L2048",
                "扫描，前向 + 反向，B4 L2048",
            ),
            "scan_fwdbwd_b1_l608_ms": (
                "scan, forward + backward, B1 L608",
                "扫描，前向 + 反向，B1 L608",
            ),
            "step_b1_l608_ms": ("stage-2 step, B1 L608", "第二阶段一步，B1 L608"),
            "step_b1_l608_gib": ("its memory", "显存"),
            "step_b4_l608_ms": ("stage-2 step, B4 L608", "第二阶段一步，B4 L608"),
            "step_b4_l608_gib": ("its memory", "显存"),
            "step_eager_b1_l608_ms": (
                "stage-2 step without a graph, B1 L608",
                "第二阶段一步，不用 CUDA 图，B1 L608",
            ),
            "decode_b1_tok_s": ("writing, batch 1", "写报告，批大小 1"),
            "decode_b16_tok_s": ("writing, batch 16", "写报告，批大小 16"),
            "prefill_65536": (
                "a token of a prompt of 65,536 (the others: of 4,096)",
                "65,536 个 token 的提示，每个 token（其他：4,096 个）",
            ),
            "bridge_bidir_vs_official": (
                "bridge block, training, B2 L4096 D1024",
                "桥接网络的一块，训练，B2 L4096 D1024",
            ),
        },
    ),
    (
        "mamba-cpu.json",
        "fp32",
        {
            "cpu_fwd_vs_transformers": (
                "one layer, forward, L608 D1536",
                "一层，前向，L608 D1536",
            ),
            "cpu_fwdbwd_vs_transformers": (
                "one layer, forward + backward, L608 D1536",
                "一层，前向 + 反向，L608 D1536",
            ),
        },
    ),
)
HEADS = {
    "en": ("", "ctscribe", "official extension", "transformers without extensions"),
    "zh": ("", "ctscribe", "官方扩展", "transformers，无扩展"),
}
NOT_YET = {
    "en": "Not measured yet: `benchmarks/mamba.py` writes the figures.",
    "zh": "尚未测量：数字由 `benchmarks/mamba.py` 写出。",
}
OUT_OF_MEMORY = {"en": "out of memory", "zh": "显存不足"}
EARLIER = {"en": "† measured before, on one H200 on {}", "zh": "† 此前在一块 H200 上测得，{}"}


def main() -> None:
    """Write the block of every README anew."""
    for language, readme in READMES.items():
        text = fill(readme.read_text(encoding="utf-8"), block(RESULTS, language))
        readme.write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {readme}")


def fill(text: str, content: str) -> str:
    """The text with `content` between its markers. Raises ValueError if they are not there once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"a README has one line {BEGIN.strip()} and one {END.strip()}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{content}{END}{rest.split(END)[1]}"


def block(results: Path, language: str) -> str:
    """Markdown: a table for each JSON file that is there, or a sentence if none is."""
    parts = [
        _table(json.loads((results / name).read_text(encoding="utf-8")), dtype, labels, language)
        for name, dtype, labels in TABLES
        if (results / name).is_file()
    ]
    return "\n".join(parts) or NOT_YET[language] + "\n"


def _table(
    document: Mapping[str, Any], dtype: str, labels: Mapping[str, tuple[str, str]], language: str
) -> str:
    """Raises ValueError on figures of tiny shapes."""
    if document["quick"]:
        raise ValueError("figures of --quick say nothing")
    heads = HEADS[language]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    for key, names in labels.items():
        if key in document["figures"]:
            row = document["figures"][key]
            peers = [_peer(row, peer, language) for peer in PEERS]
            lines.append(_line([names[language == "zh"], _ours(row), *peers]))
    caption = [document["device"], dtype, document["date"]]
    caption += [f"CUDA {document['cuda']}"] if "cuda" in document else []
    caption += [f"{name} {version}" for name, version in document["versions"].items()]
    note = ", ".join(caption)
    if any("†" in line for line in lines):
        date = re.search(r"\d{4}-\d\d-\d\d", document["recorded"])
        assert date is not None, document["recorded"]
        note += ". " if language == "en" else "。"
        note += EARLIER[language].format(date[0])
    return "\n".join([*lines, "", note + ("." if language == "en" else "。"), ""])


def _ours(row: Mapping[str, Any]) -> str:
    # A figure that is a ratio itself keeps its milliseconds beside it.
    value = row["more"].get("ours_ms") if row["unit"] == "x" else row["value"]
    return _number(value, row["unit"])


def _peer(row: Mapping[str, Any], peer: str, language: str) -> str:
    """A peer's figure and how many times better ours is; † if it was measured before."""
    value, times, mark = row["peers"].get(peer), row["ratios"].get(peer), ""
    if value is None and peer in row["recorded"]:
        value, mark = row["recorded"][peer], "†"
        if row["value"]:
            ours, more_is_better = row["value"], row["unit"].endswith("/s")
            times = ours / value if more_is_better else value / ours
    if value is None:
        ran_out = row["notes"].get(peer, "").startswith("out of memory")
        return OUT_OF_MEMORY[language] if ran_out else "-"
    shown = "" if times is None else f" ({times:,.0f}x)" if times >= 10 else f" ({times:.1f}x)"
    return _number(value, row["unit"]) + mark + shown


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    unit = "ms" if unit == "x" else unit
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

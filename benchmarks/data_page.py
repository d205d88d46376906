"""The parts of docs/DATA.md that are made of what the code and the benchmarks say.

    python benchmarks/data_page.py

writes them; a test compares.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from ctscribe.problems import KINDS
from ctscribe.tables.sheet import DATE_NAMES, ID_KINDS, PATIENT_KINDS, SECTIONS, WHOLE

REPO = Path(__file__).parents[1]
PAGE = REPO / "docs" / "DATA.md"
RESULTS = REPO / "benchmarks" / "results"


def columns() -> str:
    """The names by which `ctscribe excel` knows a column."""
    kinds = {
        "id; each line is a kind of its own": [" · ".join(kind) for kind in ID_KINDS],
        "patient; likewise": [" · ".join(kind) for kind in PATIENT_KINDS],
        **{f"{zh} / {en}": [" · ".join(names)] for zh, en, names in SECTIONS},
        "the whole report, where it has no sections": [" · ".join(WHOLE)],
        "date": [" · ".join(DATE_NAMES)],
    }
    head = ["| Column | Names, in any case and with any spaces |", "| --- | --- |"]
    return "\n".join([*head, *(f"| {what} | {'<br>'.join(k)} |" for what, k in kinds.items())])


def messages() -> str:
    """Every code with its severity, meaning and fix, in both languages."""
    rows = [
        f"| `{code}` | {kind.severity} | {kind.en}<br>{kind.zh} | {kind.fix_en}<br>{kind.fix_zh} |"
        for code, kind in KINDS.items()
    ]
    head = ["| Code | Severity | What it means | What to do |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def faults() -> str:
    """Each bad input, the ways in which it is built, and the codes that name it."""
    sys.path.insert(0, str(REPO))
    from tests.bad_inputs.faults import FAULTS
    from tests.bad_inputs.share import VARIANTS

    rows = []
    for number, name in FAULTS.items():
        own = [variant for variant in VARIANTS if variant.fault == number]
        ways = ", ".join(f"{v.name} ({_end(v.code, v.loads)})" for v in own)
        codes = dict.fromkeys(code for v in own for code in v.code.split("|") if code)
        rows.append(f"| {number} | {name} | {ways} | {', '.join(f'`{c}`' for c in codes)} |")
    return "\n".join(["| | Input | Built as | Codes |", "| --- | --- | --- | --- |", *rows])


def _end(code: str, loads: bool) -> str:
    return "works" if not code else "handled" if loads else "refused"


def figures() -> str:
    """What benchmarks/data.py measured, and what unseen texts showed."""
    found: dict[str, Any] = json.loads((RESULTS / "data.json").read_text(encoding="utf-8"))
    rows = [
        f"| `{name}` | {entry['value']:g} | {entry['bound']} {entry['must']:g} |"
        for name, entry in found["figures"].items()
    ]
    unseen = [f"| {what} | {value} |" for what, value in found["unseen"].items()]
    return "\n".join(
        [
            f"`python benchmarks/data.py`, {found['date']}, {found['device']}:",
            "",
            "| Figure | Value | Must be |",
            "| --- | --- | --- |",
            *rows,
            "",
            "The rules have been mended with all texts of the project but author 6's, so the",
            "figures above are of what they know. On texts of other authors, before anything was",
            "mended for them, they were:",
            "",
            "| Texts | At first contact |",
            "| --- | --- |",
            *unseen,
        ]
    )


def page(text: str) -> str:
    """The page with its made parts as they are now."""
    for name, part in (
        ("columns", columns()),
        ("messages", messages()),
        ("faults", faults()),
        ("figures", figures()),
    ):
        text = re.sub(
            rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
            lambda match, part=part: f"{match[1]}{part}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

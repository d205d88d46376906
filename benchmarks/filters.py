"""Precision and recall of every filter of `ctscribe clean`: python benchmarks/filters.py.

Runs each filter alone over the texts of tests/tables/labelled_texts.json, which were labelled by
hand, and writes results/filters.json. A hit is a text that had to be changed or dropped and was.
What each filter did with the texts of a "set" before anything was mended with them is kept here
and written as `first_contact`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ctscribe
from ctscribe.files import write_atomically
from ctscribe.tables.clean import FILTERS, CleanOptions, build_filters
from ctscribe.tables.filters import Candidate, Filter

REPO = Path(__file__).parents[1]
LABELS = REPO / "tests" / "tables" / "labelled_texts.json"
OUT = Path(__file__).parent / "results" / "filters.json"
# What the labels of the filters with a parameter suppose.
OPTIONS = CleanOptions(
    filters=",".join(name for name in FILTERS if name not in ("deidentify", "normalise")),
    min_answer_chars=8,
    require_keywords="结节|nodule",
    drop_line_regex="医师|签名|radiologist|signed",
    keep_line_regex="肺|lung",
)
# By set and filter: texts, hits, misses, false alarms, and hits that came out as another text.
# Some labels of that day were not this project's way (which residue of a contact may stay, blank
# lines); they are counted against the filters, and stand as they should in the labelled texts.
FIRST_CONTACT: dict[str, dict[str, tuple[int, int, int, int, int]]] = {
    # Of an author who had read no rule, text or figure of these filters.
    "independent_1": {
        "phone": (36, 16, 2, 2, 5),
        "advertising": (36, 16, 2, 4, 0),
        "sex_age": (35, 13, 4, 0, 4),
        "generic_only": (38, 18, 0, 3, 0),
        "placeholder": (40, 17, 3, 2, 0),
        "repeats": (28, 13, 0, 0, 10),
        "encoding_damage": (32, 17, 0, 0, 2),
        "characters": (31, 16, 0, 1, 4),
        "thorax_only": (35, 14, 3, 4, 0),
        "near_duplicate": (29, 10, 3, 1, 0),
    },
    # Of the same author, who had mended the filters with the first by then; and after that again.
    "fresh_1": {
        "phone": (14, 6, 0, 0, 1),
        "advertising": (16, 5, 2, 0, 1),
        "sex_age": (16, 8, 0, 0, 1),
        "generic_only": (21, 7, 0, 0, 0),
        "placeholder": (16, 8, 0, 0, 0),
        "repeats": (8, 4, 0, 0, 0),
        "encoding_damage": (6, 4, 0, 0, 0),
        "characters": (4, 2, 0, 0, 0),
        "thorax_only": (15, 5, 0, 0, 0),
        "near_duplicate": (9, 3, 0, 0, 0),
    },
    "fresh_2": {
        "phone": (14, 5, 1, 0, 1),
        "advertising": (15, 5, 1, 0, 0),
        "sex_age": (14, 6, 0, 0, 0),
        "generic_only": (21, 7, 0, 0, 0),
        "placeholder": (16, 8, 0, 0, 0),
        "repeats": (6, 3, 0, 0, 0),
        "thorax_only": (13, 5, 0, 0, 0),
        "near_duplicate": (7, 2, 0, 1, 0),
    },
}


@dataclass
class Score:
    """What one filter did with its labelled texts; wrong: those it got wrong, and what came out."""

    rows: int = 0
    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    inexact: int = 0  # changed as it should, but not to the text of the label
    wrong: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Hits of all texts that it changed or dropped."""
        return self.hits / max(1, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """Hits of all texts that it had to change or drop."""
        return self.hits / max(1, self.hits + self.misses)


def measure(labels: Iterable[Mapping[str, Any]], folder: Path) -> dict[str, Score]:
    """The score of each filter; images of a few bytes are written into `folder`."""
    rules = {rule.name: rule for rule in build_filters(OPTIONS)}
    scores: dict[str, Score] = {}
    for label in labels:
        score = scores.setdefault(str(label["filter"]), Score())
        text = str(label["text"])
        got = after(rules[str(label["filter"])], label, folder)
        wanted = None if label.get("drop") else str(label.get("clean", text))
        score.rows += 1
        score.hits += wanted != text and got != text
        score.misses += wanted != text and got == text
        score.false_alarms += wanted == text and got != text
        score.inexact += wanted != text and got not in (text, wanted)
        if got != wanted:
            score.wrong.append((text, got))
    return scores


def after(rule: Filter, label: Mapping[str, Any], folder: Path) -> str | None:
    """What a filter makes of a labelled text, None if it drops it."""
    share = label.get("share")
    rows = [_row(label, folder, "b", patient="p" if share == "patient" else "q")]
    if share:
        first = {**label, "text": label["first"]}
        rows.insert(0, _row(first, folder, "b" if share == "image" else "a", patient="p"))
    row = rows[-1]
    text = rule.edited(row)
    edited = Candidate(row.case_id, row.image_path, row.question, text, row.patient_id)
    if rule.reject is not None and rule.reject(edited) is not None:
        return None
    if rule.sift is not None and len(rows) - 1 in rule.sift([*rows[:-1], edited]):
        return None
    return text


def _row(label: Mapping[str, Any], folder: Path, name: str, *, patient: str) -> Candidate:
    path = folder / name
    kind = label.get("image", "there")
    if kind != "there":
        path = folder / str(kind)
        if kind == "folder":
            path.mkdir(exist_ok=True)
        elif kind == "empty":
            path.touch()
    elif not path.exists():
        path.write_bytes(b"x")
    return Candidate(name, path, "", str(label["text"]), patient)


def figures(score: Score) -> dict[str, float]:
    """Counts and rates of a score, as they are written."""
    counts = asdict(score)
    del counts["wrong"]
    rates = {"precision": round(score.precision, 4), "recall": round(score.recall, 4)}
    return {**counts, **rates}


def first_contact() -> dict[str, dict[str, dict[str, float]]]:
    """The figures of FIRST_CONTACT by set and filter, and of all filters together."""
    found = {}
    for name, by_filter in FIRST_CONTACT.items():
        total = [sum(counts) for counts in zip(*by_filter.values(), strict=True)]
        found[name] = {
            rule: figures(Score(rows, hits, misses, alarms, inexact))
            for rule, (rows, hits, misses, alarms, inexact) in {**by_filter, "all": total}.items()
        }
    return found


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="where to write the JSON")
    parser.add_argument("--wrong", action="store_true", help="show the texts that went wrong")
    given = parser.parse_args()
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
        scores = measure(labels, Path(scratch))
    print(f"{'filter':18} rows hits misses false  precision recall inexact")
    found: dict[str, dict[str, float]] = {}
    for name in (name for name in FILTERS if name in scores):
        s = scores[name]
        print(
            f"{name:18} {s.rows:4} {s.hits:4} {s.misses:6} {s.false_alarms:5}  "
            f"{s.precision:9.3f} {s.recall:6.3f} {s.inexact:7}"
        )
        if given.wrong:
            for text, got in s.wrong:
                print(f"    {text!r} -> {got!r}")
        found[name] = figures(s)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "rows": len(labels),
        "least_precision": min(f["precision"] for f in found.values()),
        "least_recall": min(f["recall"] for f in found.values()),
        "filters": found,
        "first_contact": first_contact(),
        "versions": {"python": platform.python_version(), "ctscribe": ctscribe.__version__},
    }
    write_atomically(given.out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

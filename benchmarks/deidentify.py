"""How much personal data is found in phantom reports, and how much else is taken away with it.

python benchmarks/deidentify.py [--texts 2000] [--misses 20]

A span is found if every character of it is covered. Prints a table by language and kind, of the
templates that the rules were written with and of those held out, and writes
benchmarks/results/deidentify.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.phantom.personal import PersonalText, personal_text
from ctscribe.reports.deidentify import KINDS, find_personal
from ctscribe.reports.schema import Language

RESULTS = Path(__file__).parent / "results" / "deidentify.json"


def measure(
    texts: list[PersonalText], show: int = 0, *, institutions: bool = False
) -> dict[str, Any]:
    """Recall by span, whole and by kind, and precision by character."""
    spans, found = Counter[str](), Counter[str]()
    covered_total = right_total = characters = 0
    start = time.perf_counter()
    for text in texts:
        said = find_personal(text.text, text.language, institutions=institutions)
        covered = {i for s in said for i in range(s.start, s.end)}
        truth = {i for s in text.spans for i in range(s.start, s.end)}
        # The space or comma between the parts of one thing takes nothing away from a report.
        extra = {i for i in covered - truth if not text.text[i].isspace()}
        for span in text.spans:
            if span.kind == "institution" and not institutions:
                continue
            spans[span.kind] += 1
            hit = all(i in covered or text.text[i].isspace() for i in range(span.start, span.end))
            found[span.kind] += hit
            if not hit and show > 0:
                show -= 1
                around = text.text[max(0, span.start - 12) : span.end + 8]
                print(f"missed {span.kind} {text.text[span.start : span.end]!r} in {around!r}")
        if extra and show > 0:
            show -= 1
            first = min(extra)
            around = text.text[max(0, first - 15) : first + 15]
            print(f"taken {text.text[first : first + 12]!r} in {around!r}")
        covered_total += len(covered)
        right_total += len(covered) - len(extra)
        characters += len(text.text)
    seconds = time.perf_counter() - start
    return {
        "texts": len(texts),
        "spans": spans.total(),
        "recall": found.total() / spans.total(),
        "precision": right_total / covered_total,
        "recall_by_kind": {k: found[k] / spans[k] for k in KINDS if spans[k]},
        "spans_by_kind": {k: spans[k] for k in KINDS if spans[k]},
        "characters_per_second": round(characters / seconds),
    }


def sample(
    language: Language, count: int, *, held_out: bool = False, seed: int = 0
) -> list[PersonalText]:
    """Seeded texts of one language."""
    rng = np.random.default_rng(seed)
    return [personal_text(language, rng, held_out=held_out) for _ in range(count)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--misses", type=int, default=0, help="how many misses to print")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--known-only", action="store_true", help="no held-out templates, no file")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for held_out in (False,) if options.known_only else (False, True):
        part = "held_out" if held_out else "known"
        for language in ("zh", "en"):
            texts = sample(language, options.texts, held_out=held_out, seed=options.seed)
            result = measure(texts, options.misses)
            asked = measure(texts, institutions=True)
            places = result["recall_of_institutions"] = asked["recall_by_kind"]["institution"]
            result["precision_with_institutions"] = asked["precision"]
            results.setdefault(part, {})[language] = result
            kinds = " ".join(f"{k} {v:.4f}" for k, v in result["recall_by_kind"].items())
            print(
                f"{part:8} {language} recall {result['recall']:.4f} precision "
                f"{result['precision']:.4f} | {kinds} | institutions if asked for "
                f"{places:.4f} | "
                f"{result['characters_per_second']:,} chars/s"
            )
    if not options.known_only:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How much personal data is found, and how much else is taken away with it.

python benchmarks/deidentify.py [--texts 2000] [--misses 20]
python benchmarks/deidentify.py --first-contact tests/reports/personal_unseen.json

A span is found if every character of it is covered. Prints a table by language and kind, and
writes benchmarks/results/deidentify.json: of phantom reports from the templates that the rules were
written with and from those held out until then, and of the texts that independent authors wrote.
The rules have been mended on all of these since. What they are worth on formats that nobody has
seen stands in benchmarks/results/deidentify_first_contact.json: the figures of each set when the
rules first met it, with date and commit; --first-contact adds sets and never changes one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.phantom.personal import PersonalText, personal_text
from ctscribe.reports.deidentify import KINDS, Span, find_personal
from ctscribe.reports.schema import Language

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "deidentify.json"
FIRST_CONTACT = HERE / "results" / "deidentify_first_contact.json"
# By an author who wrote no rule; no rule is ever mended for these.
UNTOUCHED = HERE.parent / "tests" / "reports" / "untouched_personal.json"
UNSEEN = HERE.parent / "tests" / "reports" / "personal_unseen.json"
# {ok:...} may be hidden or left: a clock time, the number of a bed.
_MARK = re.compile(rf"\{{({'|'.join((*KINDS, 'ok'))}):(.*?)\}}", re.DOTALL)


def unmarked(text: str) -> tuple[str, list[Span], set[int]]:
    """The text of "姓名：{name:张三}", its spans, and the characters that count neither way."""
    plain, spans, end = "", [], 0
    either: set[int] = set()
    for mark in _MARK.finditer(text):
        plain += text[end : mark.start()]
        if mark[1] == "ok":
            either.update(range(len(plain), len(plain) + len(mark[2])))
        else:
            spans.append(Span(len(plain), len(plain) + len(mark[2]), mark[1]))  # type: ignore[arg-type]
        plain += mark[2]
        end = mark.end()
    return plain + text[end:], spans, either


def written(path: Path) -> dict[str, list[tuple[PersonalText, set[int]]]]:
    """The texts of a file of independent authors, by set."""
    sets: dict[str, list[tuple[PersonalText, set[int]]]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        text, spans, either = unmarked(row["text"])
        made = PersonalText(text, tuple(spans), row["language"], row["set"])
        sets.setdefault(row["set"], []).append((made, either))
    return sets


def measure(
    texts: list[PersonalText],
    show: int = 0,
    *,
    institutions: bool = False,
    either: list[set[int]] | None = None,
) -> dict[str, Any]:
    """Recall by span, whole and by kind, and precision by character."""
    spans, found = Counter[str](), Counter[str]()
    covered_total = right_total = characters = whole = harmed = 0
    start = time.perf_counter()
    for number, text in enumerate(texts):
        said = find_personal(text.text, text.language, institutions=institutions)
        covered = {i for s in said for i in range(s.start, s.end)}
        covered -= either[number] if either else set()
        truth = {i for s in text.spans for i in range(s.start, s.end)}
        # The space or comma between the parts of one thing takes nothing away from a report.
        extra = {i for i in covered - truth if text.text[i].isalnum()}
        missed = False
        for span in text.spans:
            if span.kind == "institution" and not institutions:
                continue
            spans[span.kind] += 1
            hit = all(i in covered or text.text[i].isspace() for i in range(span.start, span.end))
            found[span.kind] += hit
            missed |= not hit
            if not hit and show > 0:
                show -= 1
                around = text.text[max(0, span.start - 12) : span.end + 8]
                print(f"missed {span.kind} {text.text[span.start : span.end]!r} in {around!r}")
        if extra and show > 0:
            show -= 1
            first = min(extra)
            around = text.text[max(0, first - 15) : first + 15]
            print(f"taken {text.text[first : first + 12]!r} in {around!r}")
        whole += bool(text.spans) and not missed
        harmed += bool(extra) and not text.spans
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
        "texts_with_personal_data": sum(bool(text.spans) for text in texts),
        "of_these_with_nothing_left": whole,
        "texts_without_that_lose_something": harmed,
        "characters_per_second": round(characters / seconds),
    }


def sample(
    language: Language, count: int, *, held_out: bool = False, seed: int = 0
) -> list[PersonalText]:
    """Seeded texts of one language."""
    rng = np.random.default_rng(seed)
    return [personal_text(language, rng, held_out=held_out) for _ in range(count)]


def measure_written(path: Path, show: int = 0) -> dict[str, dict[str, Any]]:
    """The figures of each set of a file, both languages and each."""
    results: dict[str, dict[str, Any]] = {}
    for name, rows in written(path).items():
        for part in ("all", "zh", "en"):
            chosen = [row for row in rows if part in ("all", row[0].language)]
            texts, either = [text for text, _ in chosen], [ok for _, ok in chosen]
            result = measure(texts, show if part == "all" else 0, either=either)
            results.setdefault(name, {})[part] = result
            print(
                f"{name} {part} recall {result['recall']:.4f} precision {result['precision']:.4f}"
            )
    return results


def first_contact(path: Path) -> None:
    """Measure the sets that are not in the file of first figures, and add them to it."""
    kept = json.loads(FIRST_CONTACT.read_text(encoding="utf-8"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for name, figures in measure_written(path).items():
        if name in kept:
            print(f"{name} was met before: its first figures stay")
            continue
        kept[name] = {"date": datetime.now(UTC).date().isoformat(), "commit": commit, **figures}
    FIRST_CONTACT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--misses", type=int, default=0, help="how many misses to print")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--known-only", action="store_true", help="no held-out templates, no file")
    parser.add_argument("--first-contact", type=Path, help="a file of texts that are met first")
    options = parser.parse_args()
    if options.first_contact:
        first_contact(options.first_contact)
        return
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
        results["untouched"] = measure_written(UNTOUCHED)
        results["written_by_others"] = measure_written(UNSEEN, options.misses)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

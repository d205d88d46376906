from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ctscribe.reports.labeller import extract, label_report, mentions
from ctscribe.reports.schema import AMOUNTS, DENSITIES, LOBES, SIDES, Finding, side_of

SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


def finding_of(words: str) -> Finding:
    """"nodule RUL solid 14" as a Finding."""
    name, *rest = words.split()
    place = rest.pop(0) if rest and rest[0] in (*LOBES, *SIDES) else None
    return Finding(
        name,  # type: ignore[arg-type]
        side=place if place in SIDES else side_of(place) if place else None,  # type: ignore[arg-type]
        lobe=place if place in LOBES else None,  # type: ignore[arg-type]
        size_mm=next((float(word) for word in rest if word.replace(".", "").isdigit()), None),
        density=next((word for word in rest if word in DENSITIES), None),  # type: ignore[misc]
        amount=next((word for word in rest if word in AMOUNTS), None),  # type: ignore[misc]
    )


def test_hand_labelled_sentences_are_read_right() -> None:
    assert len(SENTENCES) >= 120
    hits = predicted = labelled = 0
    misread = []
    for row in SENTENCES:
        got = Counter(extract(row["text"], row["language"]))
        want = Counter(map(finding_of, row["findings"]))
        hits += (got & want).total()
        predicted, labelled = predicted + got.total(), labelled + want.total()
        if got != want:
            misread.append((row["text"], list(got)))
    micro_f1 = 2 * hits / (predicted + labelled)
    assert micro_f1 >= 0.97, misread

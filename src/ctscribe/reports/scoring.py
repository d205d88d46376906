"""How well `statements` reads sentences that a person has labelled, counted strictly.

A label is a line of plain words, one a statement, as a radiologist can write it:

    "nodule LUL S1+2 8x6mm ground-glass stable"    "no effusion both"    "maybe fracture left"

In this order: no or maybe; the finding (`ggo` and `mosaic` for the long ones); a lobe or a side,
`both` for a statement of each side; a segment; the axes; density; amount; change since the prior.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctscribe.reports.schema import (
    AMOUNTS,
    CHANGES,
    DENSITIES,
    LOBES,
    OBSERVATIONS,
    SIDES,
    Statement,
    side_of,
)
from ctscribe.reports.statements import statements

_SHORT = {"ggo": "ground-glass-opacity", "mosaic": "mosaic-attenuation"}
ATTRIBUTES = (
    "negated",
    "uncertain",
    "side",
    "lobe",
    "segment",
    "axes_mm",
    "density",
    "amount",
    "comparison",
)
Key = tuple[Any, ...]  # the finding, then ATTRIBUTES


def key_of(statement: Statement) -> Key:
    """What of a statement is compared: all that it says, but not where in the text."""
    return (statement.finding, *(getattr(statement, name) for name in ATTRIBUTES))


def keys_of(label: str) -> list[Key]:
    """One label as statements: two for `both`. A word that is none of a label's is a ValueError."""
    words = label.split()
    negated, uncertain = words[:1] == ["no"], words[:1] == ["maybe"]
    words = words[negated + uncertain :]
    name = _SHORT.get(words[0], words[0])
    known: dict[str, Any] = dict.fromkeys(ATTRIBUTES)
    known |= {"negated": negated, "uncertain": uncertain, "axes_mm": ()}
    sides: list[str | None] = [None]
    for word in words[1:]:
        if word in LOBES:
            known["lobe"], sides = word, [side_of(word)]
        elif word in SIDES or word == "both":
            sides = list(SIDES) if word == "both" else [word]
        elif re.fullmatch(r"S\d+([+-]\d+)?", word):
            known["segment"] = word
        elif re.fullmatch(r"[\d.]+(x[\d.]+)*mm", word):
            known["axes_mm"] = tuple(float(axis) for axis in word[:-2].split("x"))
        elif word in (*DENSITIES, *AMOUNTS, *CHANGES):
            kinds = (("density", DENSITIES), ("amount", AMOUNTS), ("comparison", CHANGES))
            known[next(kind for kind, words_of in kinds if word in words_of)] = word
        else:
            raise ValueError(f"{label!r}: {word!r} is no word of a label")
    if name not in OBSERVATIONS:
        raise ValueError(f"{label!r}: {name!r} is no finding")
    return [(name, *({**known, "side": side}[a] for a in ATTRIBUTES)) for side in sides]


@dataclass
class Score:
    """Statements that agree, that were read, that were labelled."""

    agreed: int = 0
    read: int = 0
    labelled: int = 0

    def add(self, read: Counter[Any], labelled: Counter[Any]) -> None:
        """Count one sentence."""
        self.agreed += (read & labelled).total()
        self.read += read.total()
        self.labelled += labelled.total()

    @property
    def precision(self) -> float:
        """Of what was read."""
        return self.agreed / self.read if self.read else 1.0

    @property
    def recall(self) -> float:
        """Of what was labelled."""
        return self.agreed / self.labelled if self.labelled else 1.0

    @property
    def f1(self) -> float:
        """Their harmonic mean; 1 where there was nothing to read and nothing was read."""
        total = self.read + self.labelled
        return 2 * self.agreed / total if total else 1.0


@dataclass(frozen=True)
class Scores:
    """strict: a statement counts if everything it says is right; groups: the same by group.

    attributes: of finding and one attribute alone, where either has it. misread: (text, labelled
    but not read, read but not labelled).
    """

    strict: Score
    groups: Mapping[str, Score]
    attributes: Mapping[str, Score]
    misread: Sequence[tuple[str, list[Key], list[Key]]]


def score_sentences(rows: Iterable[Mapping[str, Any]]) -> Scores:
    """Rows of `text` and `says` (labels), with `language`, and `kind` for the hard ones."""
    strict, groups = Score(), dict[str, Score]()
    attributes = {name: Score() for name in ("finding", *ATTRIBUTES)}
    misread = []
    for row in rows:
        read = Counter(map(key_of, statements(row["text"])))
        labelled = Counter(key for label in row["says"] for key in keys_of(label))
        strict.add(read, labelled)
        for group in (row["language"], row.get("kind", "plain")):
            groups.setdefault(group, Score()).add(read, labelled)
        for index, name in enumerate(attributes):
            attributes[name].add(_only(read, index), _only(labelled, index))
        if read != labelled:
            missed, wrong = labelled - read, read - labelled
            misread.append((row["text"], list(missed.elements()), list(wrong.elements())))
    return Scores(strict, groups, attributes, misread)


def _only(keys: Counter[Key], index: int) -> Counter[Key]:
    """Finding and one attribute, where it is set."""
    kept: Counter[Key] = Counter()
    for key, count in keys.items():
        if key[index]:
            kept[key[0], key[index]] += count
    return kept

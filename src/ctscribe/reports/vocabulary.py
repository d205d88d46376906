"""The findings that are read, by what can be said of them, and the rules of each language as one.

`words_zh` and `words_en` hold the rules; `tokens` reads by them.
"""

from __future__ import annotations

import re

from ctscribe.reports.schema import Language, Observation
from ctscribe.reports.words_en import EN
from ctscribe.reports.words_zh import ZH

PLEURA: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pleural-thickening"})
# Side only where one alone is named: their words lie beside the lungs' own places.
SIDED: frozenset[Observation] = frozenset(
    [
        *("lymphadenopathy", "fracture", "rib-lesion", "kidney-cyst"),
        *("thyroid-nodule", "breast-nodule", "adrenal-nodule"),
    ]
)
PLACELESS: frozenset[Observation] = SIDED | {
    *("pericardial-effusion", "cardiomegaly", "coronary-calcification", "aortic-calcification"),
    *("hiatal-hernia", "liver-cyst", "liver-lesion"),
}
SIZED: frozenset[Observation] = frozenset(
    [
        *("nodule", "consolidation", "ground-glass-opacity", "opacity", "cavity", "bulla"),
        *("calcification", "lymphadenopathy", "hiatal-hernia", "rib-lesion", "thyroid-nodule"),
        *("breast-nodule", "adrenal-nodule", "liver-cyst", "liver-lesion", "kidney-cyst"),
    ]
)
AMOUNTED: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pericardial-effusion"})


def _compile(rules: list[tuple[str, str]]) -> tuple[re.Pattern[str], list[str]]:
    """One expression; group g<i> is rule i."""
    whole = "|".join(f"(?P<g{i}>{rule})" for i, (_, rule) in enumerate(rules))
    return re.compile(whole, re.IGNORECASE), [name for name, _ in rules]


RULES: dict[Language, tuple[re.Pattern[str], list[str]]] = {"zh": _compile(ZH), "en": _compile(EN)}

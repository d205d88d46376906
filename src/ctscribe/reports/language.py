"""The words of both languages: places, findings, questions, and short phrases that state a slot.

A slot is one question an image can answer: is this finding at this place, and what is it like?
`SLOTS` fixes their order for every part that has one row a slot: the pooled image features, the
visual tokens, and the language model's training prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

from ctscribe.reports.schema import (
    AMOUNTS,
    LOBAR,
    LOBES,
    PLEURAL,
    SIDES,
    Amount,
    Density,
    Finding,
    FindingName,
    Language,
    Lobe,
    Side,
)

# (finding, place): 5 lobes x 3 lobar findings, then 2 sides x 2 pleural ones; 19 in all.
SLOTS: tuple[tuple[FindingName, Lobe | Side], ...] = (
    *((name, lobe) for lobe in LOBES for name in LOBAR),
    *((name, side) for side in SIDES for name in PLEURAL),
)
_SLOT_INDEX: dict[tuple[str, str], int] = {slot: index for index, slot in enumerate(SLOTS)}

PLACE_NAMES: dict[Language, dict[Lobe | Side, str]] = {
    "zh": {
        "RUL": "右肺上叶",
        "RML": "右肺中叶",
        "RLL": "右肺下叶",
        "LUL": "左肺上叶",
        "LLL": "左肺下叶",
        "right": "右侧",
        "left": "左侧",
    },
    "en": {
        "RUL": "right upper lobe",
        "RML": "right middle lobe",
        "RLL": "right lower lobe",
        "LUL": "left upper lobe",
        "LLL": "left lower lobe",
        "right": "right",
        "left": "left",
    },
}
FINDING_NAMES: dict[Language, dict[FindingName, str]] = {
    "zh": {
        "nodule": "结节",
        "consolidation": "实变",
        "emphysema": "肺气肿",
        "effusion": "胸腔积液",
        "pneumothorax": "气胸",
    },
    "en": {
        "nodule": "nodule",
        "consolidation": "consolidation",
        "emphysema": "emphysema",
        "effusion": "pleural effusion",
        "pneumothorax": "pneumothorax",
    },
}
DENSITY_NAMES: dict[Language, dict[Density, str]] = {
    "zh": {
        "solid": "实性",
        "part-solid": "部分实性",
        "ground-glass": "磨玻璃",
        "calcified": "钙化",
    },
    "en": {
        "solid": "solid",
        "part-solid": "part-solid",
        "ground-glass": "ground-glass",
        "calcified": "calcified",
    },
}
AMOUNT_NAMES: dict[Language, dict[Amount, str]] = {
    "zh": {"small": "少量", "moderate": "中等量", "large": "大量"},
    "en": {"small": "small", "moderate": "moderate", "large": "large"},
}
NONE_NAME: dict[Language, str] = {"zh": "无", "en": "none"}

# The first is the default prompt; training draws any of them.
QUESTIONS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "请阅读胸部CT，写出所见、结论、建议和病理倾向。",
        "请根据这份胸部CT书写影像报告。",
        "描述胸部CT所见，并给出结论与建议。",
        "请为该患者的胸部CT出具诊断报告。",
    ),
    "en": (
        "Read this chest CT and report findings, impression and recommendation.",
        "Write the radiology report for this chest CT.",
        "Describe the chest CT and state the impression.",
        "Please report this chest CT.",
    ),
}


def detect_language(text: str) -> Language:
    """`zh` if at least one character in twenty is a Chinese one, else `en`."""
    chinese = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return "zh" if chinese and chinese * 20 >= len(text) else "en"


def slot_phrase(
    name: FindingName, place: Lobe | Side, finding: Finding | None, language: Language
) -> str:
    """What is in one slot, in words: "右肺上叶 实性 结节 14 mm", or "右肺上叶 结节 无".

    finding: what is there, or None for nothing. Words are divided by spaces in both languages, so
    that a tokenizer keeps each of them apart; a size is rounded to whole millimetres.
    """
    words = [PLACE_NAMES[language][place]]
    if finding is None:
        return " ".join([*words, FINDING_NAMES[language][name], NONE_NAME[language]])
    if finding.density is not None:
        words.append(DENSITY_NAMES[language][finding.density])
    if finding.amount is not None:
        words.append(AMOUNT_NAMES[language][finding.amount])
    words.append(FINDING_NAMES[language][name])
    if finding.size_mm is not None:
        words.append(f"{round(finding.size_mm)} mm")
    return " ".join(words)


def slots_of(findings: Sequence[Finding]) -> tuple[Finding | None, ...]:
    """Findings in the order of `SLOTS`, None where there is none.

    The largest nodule (or the larger amount) wins a slot; findings without a place have no slot.
    """
    slots: list[Finding | None] = [None] * len(SLOTS)
    for finding in findings:
        index = _SLOT_INDEX.get((finding.name, finding.place or ""))
        if index is None:
            continue
        held = slots[index]
        if held is None or _weight(finding) > _weight(held):
            slots[index] = finding
    return tuple(slots)


def describe(finding: Finding, language: Language) -> str:
    """A finding in plain words for tables and pages: "右肺上叶实性结节 14 mm"."""
    join = "" if language == "zh" else " "
    place = finding.place or finding.side
    words = [] if place is None else [PLACE_NAMES[language][place]]  # type: ignore[index]
    if finding.density is not None:
        words.append(DENSITY_NAMES[language][finding.density])
    if finding.amount is not None:
        words.insert(0 if language == "en" else 1, AMOUNT_NAMES[language][finding.amount])
    words.append(FINDING_NAMES[language][finding.name])
    size = "" if finding.size_mm is None else f" {finding.size_mm:g} mm"
    return join.join(words) + size


def _weight(finding: Finding) -> float:
    amount = 0 if finding.amount is None else 1 + AMOUNTS.index(finding.amount)
    return (finding.size_mm or 0.0) + amount

"""Which findings a word of doubt leaves open: "可疑结节", "气胸待排", "cannot be excluded"."""

from __future__ import annotations

import re

from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import Language

# Doubt about what a finding is ("结节，良性可能") is none about whether it is there.
_NATURE = re.compile(
    r"良性|恶性|转移|炎性|炎症|感染|癌|肿瘤|陈旧|benign|malignan|metasta|infect|inflamm"
    r"|neoplas|pneumonia|cancer",
    re.IGNORECASE,
)
_AFTER_FINDING = re.compile(
    r"(?:[影灶征象性改变的之是为尚亦也仍暂\s（(\"”？?、]|形成|存在|[，,]囊肿$)*$"
)
_AFTER_DOUBT = re.compile(r"(?:性?[较很]?大|性|[）)\s]|高)*(?:$|[，,；;、])")
_LISTED: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"[\s、/及和与或的（）()影]*$"),
    "en": re.compile(r"[\s,/]*(?:and|or|versus)?\s+(?:\w+\s+)?$", re.IGNORECASE),
}


def doubted_heads(
    text: str, tokens: list[Token], doubts: list[Token], language: Language, asked: bool
) -> set[int]:
    """Starts of the findings whose presence a word of doubt leaves open."""
    heads = [t for t in tokens if t.kind == "finding"]
    doubted: set[int] = set()
    for doubt in doubts:
        comma = re.compile(r"[，,]").search(text, doubt.end)
        limit = comma.start() if comma else len(text)
        ahead = [t for t in heads if doubt.end <= t.start < limit]
        behind = [t for t in heads if t.end <= doubt.start]
        passive = re.search(
            r"\bbe\b|ed\b|ruled|\bto\b", text[doubt.start : doubt.end], re.IGNORECASE
        )
        passive = (
            passive
            if language == "en" and text[doubt.start : doubt.end].lower() != "suspected"
            else None
        )
        if text[doubt.start : doubt.end].endswith("鉴别"):  # "不张与实变鉴别": either is open
            begin = max(text.rfind(stop, 0, doubt.start) for stop in "，,")
            doubted |= {t.start for t in behind if t.start > begin}
            continue
        if behind and (passive or _adjacent(text, behind[-1], doubt, language)):
            doubted.add(behind[-1].start)
            if passive:
                continue
        previous = doubt
        for head in ahead:
            gap = text[previous.end : head.start]
            gap = re.sub(r"^并[有见]", "  ", gap)  # "疑似并有": of what follows
            if previous is doubt:
                either = re.search(r"(?:或|\bor\s)[^，,]{0,6}$", gap)  # "考虑炎症或不张"
                if (_NATURE.search(gap) and not either) or _crossing(gap, language):
                    break
                if re.match(r"影?(?:为|系|是)", text[head.end : head.end + 3]):
                    break
            elif not _LISTED[language].match(_without(gap, tokens, previous.end, head.start)):
                break
            doubted.add(head.start)
            previous = head
    if asked and heads and _AFTER_FINDING.match(text[heads[-1].end :]):
        doubted.add(heads[-1].start)
    return doubted


def _crossing(gap: str, language: Language) -> bool:
    pattern = r"伴|(?<!合)并|另" if language == "zh" else r"\b(?:with|and)\b"
    return re.search(pattern, gap, re.IGNORECASE) is not None


def _without(gap: str, tokens: list[Token], start: int, end: int) -> str:
    """The gap with the places and attributes in it taken out."""
    for token in reversed(tokens):
        if start <= token.start and token.end <= end:
            gap = gap[: token.start - start] + gap[token.end - start :]
    return gap


def _adjacent(text: str, head: Token, doubt: Token, language: Language) -> bool:
    gap = text[head.end : doubt.start]
    if language == "en":
        word = text[doubt.start : doubt.end].lower()
        if word in ("suspected", "questioned") and not gap.strip():
            return True  # "a nodule suspected in the left lower lobe"
        return (word in ("versus", "vs", "vs.") and not gap.strip()) or (
            word in ("possible", "likely", "suspected", "questionable")
            and re.fullmatch(r"\s+(?:is|are)\s+", gap) is not None
        )
    return (
        _AFTER_FINDING.match(gap) is not None and _AFTER_DOUBT.match(text[doubt.end :]) is not None
    )

"""The side of what is no lung's: bones, nodes, glands, kidneys, which have no place but that."""

from __future__ import annotations

import re

from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import Language, Side

_ZH_SIDE: dict[str, Side] = {"右": "right", "左": "left"}
_EN_BEHIND = re.compile(r"\s*(?:on|in|at)\s+the\s+(right|left)\b", re.IGNORECASE)


def side_beside(sentence: str, token: Token, before: int, language: Language) -> Side | None:
    """The one side named beside a finding of bones, nodes or other organs; None if both or none.

    before: where the finding before it ends.
    """
    if token.spots:
        return token.spots[0][0]
    comma = max(sentence.rfind(stop, 0, token.start) for stop in "，,：:") + 1
    if token.word == "fracture" and re.search(r"肋|\bribs?\b", sentence[before:comma]):
        comma = before  # "左侧第3肋骨皮质欠规整，不除外骨折"
    text = sentence[max(comma, before) : token.end]
    if language == "zh":
        found = set(re.findall(r"[右左双两](?=侧|第|肺门|叶|乳|肾|肋|腋|锁|颈|肩)", text))
        return _ZH_SIDE.get("".join(found)) if len(found) == 1 else None
    stop = re.search(  # "of the right 3rd rib and the left clavicle": of both sides
        r"[,;]|\b(?:and|with)\b(?!\s+(?:the\s+)?(?:left|right)\s+(?:\w+\s+){0,2}(?:ribs?|clavicle|scapula))",
        sentence[token.end :],
    )
    text += sentence[token.end : token.end + stop.start()] if stop else sentence[token.end :]
    words = {word.lower() for word in re.findall(r"\b(?:right|left|bilateral|both)\b", text, re.I)}
    return words.pop() if len(words) == 1 and words <= {"right", "left"} else None


def sides_of_sizes(
    sentence: str, head: Token, sizes: list[Token], language: Language
) -> list[Side] | None:
    """The side of each size where each has one of its own: "右侧1.2公分，左侧0.8公分"."""
    sides: list[Side] = []
    begin = head.end
    for size in sizes:
        if language == "zh":
            named = set(re.findall("[右左]", sentence[begin : size.start]))
            side = _ZH_SIDE.get("".join(named))
        else:
            behind = _EN_BEHIND.match(sentence, size.end)
            side = None if behind is None else "right" if behind[1].lower() == "right" else "left"
        if side is None:
            return None
        sides.append(side)
        begin = size.end
    return sides if len(set(sides)) == len(sides) == 2 else None

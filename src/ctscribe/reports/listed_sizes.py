"""Sizes that share one unit: "measure 6, 8 and 11 mm, respectively", "分别约6、8、11mm"."""

from __future__ import annotations

import re
from dataclasses import replace

from ctscribe.reports.lexicon import NUMBER, UNIT, Token, axes_mm

_ONE_EACH = re.compile(r"\brespectively\b|分别|依次", re.IGNORECASE)
_LIST = re.compile(
    rf"(?<![A-Za-z\d.×*+])(?P<first>{NUMBER}(?:\s*[,，、]\s*{NUMBER}){{0,8}})"
    rf"\s*(?:[,，]?\s*(?:and|及|和|与)|[、,，])\s*(?P<last>{NUMBER}\s*(?P<unit>{UNIT}))(?![A-Za-z\d²³/])",
    re.IGNORECASE,
)


def with_listed_sizes(text: str, tokens: list[Token]) -> list[Token]:
    """With a token for each size of a list whose last alone has the unit.

    Only where the text says that they are one each: "segments 6 and 8 mm" is no list.
    """
    if not _ONE_EACH.search(text):
        return tokens
    added: list[Token] = []
    for match in _LIST.finditer(text):
        last = next((t for t in tokens if t.kind == "size" and t.end == match.end("unit")), None)
        if last is None:  # of no lesion, or not today's
            continue
        for number in re.finditer(NUMBER, match["first"]):
            (axis,) = axes_mm(number.group() + match["unit"])
            start, end = (match.start("first") + i for i in number.span())
            axes = (axis,) if last.axes_mm else ()
            added.append(replace(last, start=start, end=end, size_mm=axis, axes_mm=axes))
    return sorted([*tokens, *added], key=lambda t: t.start)

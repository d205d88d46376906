"""Phrases said over and over, as a stuck generator or a slip of copy and paste leaves them."""

from __future__ import annotations

import re
from collections import Counter

from ctscribe.tables.text import HEADING, clauses, sentences

_LONGEST = 8  # clauses in a block that repeats
_LEAST = 4  # letters and digits of a phrase that is said twice
_STUCK_TIMES, _STUCK_SHARE, _STUCK_AGAIN = 4, 0.6, 2
# Without any stop between: "结节结节结节结节", "no no no no", a phrase three times.
_RUN = re.compile(r"(?s)(?P<short>.{2,3}?)(?P=short){3,}|(?P<piece>.{4,40}?)(?P=piece){2,}")


def collapse(text: str) -> str:
    """Say each phrase once where it repeats at once; a text of one alone is left to `stuck`.

    A block of clauses counts as repeated if it follows itself on the same line, or three times
    over lines: findings and impression may say the same once each.
    """
    return text if stuck(text) else _collapsed(text)


def _collapsed(text: str) -> str:
    pieces: list[str] = []
    for piece in (piece for sentence in sentences(text) for piece in clauses(sentence)):
        if pieces and not piece.strip():
            pieces[-1] += piece  # a line end belongs to what it ends
        else:
            pieces.append(piece)
    said = [_content(piece) for piece in pieces]
    at = 0
    while at < len(pieces):
        size, times = _block(pieces, said, at)
        if times > 1:
            last = at + size * (times - 1)
            # The last is the one that stays: it has the stop and the line end of what follows.
            del pieces[at:last], said[at:last]
            pieces[0] = pieces[0].lstrip()
        at += 1
    return _RUN.sub(_once, "".join(pieces))


def stuck(text: str) -> str | None:
    """The phrase that is said again and again in a text that says nothing else, or None.

    Nothing else: it is most of the text, and said once only nothing is left beside it, or it still
    comes again between the rest. A report that was pasted over and over has its other findings.
    """
    said = _most_said(text)
    if said is None:
        return None
    once = _collapsed(text)
    pieces = [p for s in sentences(once) for p in clauses(s) if not HEADING.fullmatch(p)]
    others = [p for p in map(_content, pieces) if p.replace(said, "")]
    again = sum(said == _content(piece) for piece in pieces)
    return said if again > _STUCK_AGAIN or not others else None


def _most_said(text: str) -> str | None:
    content = len(_content(text))
    if not content:
        return None
    counts = Counter(
        said
        for sentence in sentences(text)
        for piece in clauses(sentence)
        if len(said := _content(piece)) > 1
    )
    for said, times in counts.most_common(3):
        if times >= _STUCK_TIMES and len(said) * times > _STUCK_SHARE * content:
            return said
    for match in _RUN.finditer(text):
        said = _content(match["piece"] or match["short"])
        times = len(_content(match[0])) // len(said) if said else 0
        enough = times >= _STUCK_TIMES and len(said) * times > _STUCK_SHARE * content
        if enough and any(c.isalpha() for c in said):
            return said
    return None


def _block(pieces: list[str], said: list[str], at: int) -> tuple[int, int]:
    """Size of the smallest block of clauses at `at` that repeats at once, and how often."""
    for size in range(1, min(_LONGEST, (len(pieces) - at) // 2) + 1):
        block = said[at : at + size]
        if sum(map(len, block)) < _LEAST or any(
            HEADING.fullmatch(p) for p in pieces[at : at + size]
        ):
            continue
        times = 1
        while said[at + times * size : at + (times + 1) * size] == block:
            times += 1
        one_line = "\n" not in "".join(pieces[at : at + size])
        if times >= (2 if one_line else 3):
            return size, times
    return 0, 1


def _once(match: re.Match[str]) -> str:
    piece = match["piece"] or match["short"]
    letters = [c for c in piece if not c.isspace()]
    if not any(c.isalpha() for c in letters) or any(c.isdigit() for c in letters):
        return match[0]  # rules between parts, numbers, tables
    return str(piece)


def _content(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())

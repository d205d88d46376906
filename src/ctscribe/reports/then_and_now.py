"""Which of two sizes or amounts is the prior's: "3年前4mm，现7mm", "was moderate, now small"."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import AMOUNTS

_APART = ("finding", "place", "segment", "organ", "core")
_NOW_SIZE = re.compile(
    r"(?:[增缩减变][大小少多长]?|改变)[至到为]约?$|(?:→|->|[＞>])\s*$"
    r"|(?:现|目前|本次|此次)[^，,。；;]{0,6}$|^[^.;]{0,12}\bnow\b[^.;,]{0,16}$",
    re.IGNORECASE,
)
_THEN_SIZE = re.compile(r"^\s*,?\s*from\s+(?:about\s+)?$", re.IGNORECASE)
_YEAR = re.compile(r"(?:\d年(?:\d+月)?|前)[^，,、。；;]{0,4}$")
_NOW_AMOUNT = re.compile(
    r"[增减变改降][大小少多]?[至到为成]|→|现|目前|本次|此次|\bnow\b", re.IGNORECASE
)


def then_and_now(tokens: list[Token], sentence: str) -> list[Token]:
    """The tokens with the prior's sizes called so, its amount gone and what became of it said."""
    tokens = _sizes(tokens, sentence)
    amounts = [i for i, t in enumerate(tokens) if t.kind == "amount" and t.word in AMOUNTS]
    for first, second in pairwise(amounts):
        before, after = tokens[first], tokens[second]
        if any(t.kind in _APART for t in tokens[first + 1 : second]):
            continue
        if not _NOW_AMOUNT.search(sentence[before.end : after.start]):
            continue
        grown = AMOUNTS.index(after.word) - AMOUNTS.index(before.word)
        word = "larger" if grown > 0 else "smaller" if grown else "stable"
        tokens = [t for t in tokens if t is not before]
        if not any(t.kind == "change" for t in tokens):
            at = tokens.index(after)
            tokens.insert(at, Token("change", after.start, after.start, word=word))
        break
    return tokens


def _sizes(tokens: list[Token], sentence: str) -> list[Token]:
    sizes = [i for i, t in enumerate(tokens) if t.kind == "size"]
    before: set[int] = set()
    dropped: set[int] = set()
    run: list[int] = []  # sizes of years before the one at hand
    for first, second in pairwise(sizes):
        if any(t.kind in _APART for t in tokens[first + 1 : second]):
            run = []
            continue
        run.append(first)
        if _NOW_SIZE.search(sentence[tokens[first].end : tokens[second].start]):
            before.add(first)
            dropped |= {i for i in run[:-1] if _YEAR.search(sentence, 0, tokens[i].start)}
        elif _THEN_SIZE.search(sentence[tokens[first].end : tokens[second].start]):
            before.add(second)
    return [
        replace(t, kind="before") if i in before else t
        for i, t in enumerate(tokens)
        if i not in dropped
    ]

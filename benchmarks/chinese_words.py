"""The words and given names behind `names_lattice`: python benchmarks/chinese_words.py DICT.

DICT: jieba/dict.txt of jieba 0.42.1 (its sdist; MIT), lines of word, count and part of speech.
Writes src/ctscribe/assets/chinese_words.txt; the docstring of `names_lattice` has its format.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

from ctscribe.reports.surnames import COMPOUND, MORE_SURNAMES, PLAIN_SURNAMES, SURNAMES

OUT = Path(__file__).parents[1] / "src" / "ctscribe" / "assets" / "chinese_words.txt"
LEAST = 20  # of counts: rarer words are as rare as names, and no evidence against one
LEAST_OF_A_PERSON = 100  # of words that are somebody's name in the dictionary
MOST_OF_A_VERB = 600  # commoner verbs are verbs behind a role too
# Parts of speech of words that may be a name where a role leads to it: nouns, adjectives, verbs.
KINDS = (
    "n",
    "nz",
    "ng",
    "a",
    "an",
    "b",
    "ns",
    "s",
    "i",
    "l",
    "z",
    "nr",
    "nrt",
    "nrfg",
    "nt",
    "v",
    "vn",
)
OF_TIME = "天日年月时晨早晚期节代前后初末今"  # 夏天 is a time, 夏末 may be a name
Entry = tuple[str, int, str]


def main() -> None:
    """Read, choose, write."""
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    entries = [(word, int(count), kind) for word, count, kind in map(str.split, lines)]
    rows = [*_words(entries), *_given(entries), f"9 0 {_packed(_name_like(entries))}"]
    OUT.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _words(entries: list[Entry]) -> list[str]:
    """Words of one to three characters by the level of their count."""
    by: dict[tuple[int, int], list[str]] = defaultdict(list)
    for word, count, kind in entries:
        if len(word) > 3 or not _is_han(word):
            continue
        surname = word[0] in SURNAMES
        place = kind == "ns" and surname
        person = kind.startswith("nr") and surname
        if len(word) == 1:
            kept = count >= LEAST
        elif len(word) == 2:
            kept = (count >= LEAST or place) and not (person and count < LEAST_OF_A_PERSON)
        else:
            kept = count >= (LEAST_OF_A_PERSON if person else LEAST) or place or kind == "nrt"
        if kept:
            by[len(word), round(2 * math.log10(count))].append(word)
    rows = []
    for (length, level), words in sorted(by.items()):
        body = _packed(words) if length == 2 else ("" if length == 1 else " ").join(sorted(words))
        rows.append(f"{length} {level} {body}")
    return rows


def _given(entries: list[Entry]) -> list[str]:
    """Characters of given names by the level of their share, from names of three characters."""
    counts: Counter[str] = Counter()
    for word, _, kind in entries:
        named = kind in ("nr", "nrfg") and len(word) == 3 and word[0] in PLAIN_SURNAMES
        if named and word[:2] not in COMPOUND:
            counts.update(word[1:])
    by: dict[int, list[str]] = defaultdict(list)
    for character, count in counts.items():
        if count >= 2:
            by[round(2 * math.log10(count / counts.total()))].append(character)
    return [f"0 {level} {''.join(sorted(own))}" for level, own in sorted(by.items())]


def _name_like(entries: list[Entry]) -> list[str]:
    """Words of two characters that may be somebody's name behind a role, in their order."""
    found = []
    for word, count, kind in entries:
        if len(word) != 2 or not _is_han(word) or count < LEAST:
            continue
        if word[0] in SURNAMES | MORE_SURNAMES and kind in KINDS:
            if kind not in ("v", "vn") or count < MOST_OF_A_VERB:
                found.append(word)
        elif word[0] in SURNAMES and kind == "t" and word[1] not in OF_TIME:
            found.append(word)
    return found


def _packed(words: list[str]) -> str:
    """Words of two characters as the first, and all that follow it."""
    by: dict[str, list[str]] = defaultdict(list)
    for word in words:
        by[word[0]].append(word[1])
    return " ".join(first + "".join(sorted(after)) for first, after in sorted(by.items()))


def _is_han(word: str) -> bool:
    return all("\u4e00" <= character <= "\u9fff" for character in word)


if __name__ == "__main__":
    main()

"""Report text as a table holds it: tidy characters, sentences, and near-identical reports."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctscribe.tables.wording import MEASURE

# Full-width letters, digits and signs of numbers become half-width; Chinese stops stay.
_HALF = {
    full: full - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ", "％％", "＋＋", "－－", "／／", "＜＞")
    for full in range(ord(first), ord(last) + 1)
} | {ord("㎜"): "mm", ord("㎝"): "cm", ord("\u3000"): " ", ord("\u00a0"): " ", ord("\t"): " "}
_INVISIBLE = re.compile("[\xad\u200b-\u200f\u2028-\u202e\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1f]")
_STOPS = "，。；：、！？（）【】“”"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"_x000[Dd]_"), "\n"),  # Excel's own spelling of a carriage return
    (re.compile(r"\r\n?"), "\n"),
    (re.compile(r"(?<=\d)．"), "."),  # of a decimal, or of a list's number
    (re.compile(r" *\n\s*"), "\n"),
    (re.compile(r" {2,}"), " "),
    (re.compile(rf"(?<=[{_STOPS}]) | (?=[{_STOPS}])"), ""),
)
# What stands before a section, as sheets write it: 【影像所见】, "结论：", "Findings:".
HEADING = re.compile(
    r"[【\[]?(?:(?:影像|检查|放射|CT)?学?(?:所见|表现|描述|结论|诊断|印象)(?:意见)?|(?:处理|随访)?建议"
    r"|病理(?:倾向|考虑)|Findings?|Impressions?|Conclusions?|Recommendations?"
    r"|Pathology(?: tendency)?)[】\]]?[:：】\]]\s?",
    re.IGNORECASE,
)
# A sentence ends at a stop, at a line's end, or at a point that a space or Chinese text follows;
# not in "1.4cm", and not after the number of a list or "No.". A question leads to what follows it.
_SENTENCE_END = re.compile(
    r"(?<=[。；！!;\n])|(?<=[^\d\s.]\.)(?<!\b(?i:no)\.)(?<!\b(?i:tel)\.)(?<!\b(?i:ext)\.)(?=[\s\u4e00-\u9fff])"
)
_CLAUSE_END = re.compile(r"(?<=[，？])|(?<=[,?])(?=[\s\u4e00-\u9fff])")
_MARKUP = re.compile(r"<[^<>]*>|&(?:\w+|#\d+);")
# What programs and people put where no report is: pandas' nan, databases' NULL, Excel's errors, and
# that the report is elsewhere or never was. Letters and digits alone, in small letters.
_NO_REPORT = re.compile(
    "nan|none|null|nil|na|nat|undefined|ref|value|name|div0|num|noreport|notreported|pending"
    "|无|空|略|暂无|同上|(?:暂?无|未|待)报告|(?:报告)?未写|未出报告|报告未出|详?见(?:纸质)?报告单?"
    "|检查取消|取消检查|已取消|未检查|未做|作废"
)
LONG_CHARACTERS = 60  # letters and digits
_SHINGLE, _BANDS, _BAND_ROWS = 5, 16, 3
_PRIME = np.uint64((1 << 31) - 1)


def tidy(text: str) -> str:
    """Half-width letters and digits, one kind of line end, no invisible or surplus spaces."""
    text = _INVISIBLE.sub("", text.translate(_HALF))
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.strip()


def says_nothing(text: str) -> bool:
    """Whether no report is there: no letter, headings alone, or a word such as nan, NULL or 无."""
    for part in HEADING.split(tidy(_MARKUP.sub(" ", text))):
        plain = "".join(c for c in part if c.isalnum()).lower()
        if any(c.isalpha() for c in plain) and not _NO_REPORT.fullmatch(plain):
            return False
    return True


def sentences(text: str) -> list[str]:
    """The text cut after each sentence; joined again they are the text."""
    return [piece for piece in _SENTENCE_END.split(text) if piece]


def clauses(sentence: str) -> list[str]:
    """The sentence cut after its heading, commas and question marks; joined they are it again."""
    heading = HEADING.match(sentence)
    start = heading.end() if heading else 0
    return [piece for piece in (sentence[:start], *_CLAUSE_END.split(sentence[start:])) if piece]


def is_of_one_study(text: str) -> bool:
    """Whether a report is long and gives a measurement: it is said of one study only, or pasted."""
    return MEASURE.search(text) is not None and sum(map(str.isalnum, text)) >= LONG_CHARACTERS


def near_identical(texts: Sequence[str], *, threshold: float = 0.8) -> list[tuple[int, int, float]]:
    """Pairs (i, j, similarity), i < j, of texts that share nearly all their 5-character pieces.

    Similarity is Jaccard's over letters and digits, and numbers must be the same: "8mm" and "9mm"
    are two studies. Candidates come from min-hashes, so it stays fast for 100,000 texts; a pair at
    the threshold is missed once in 100,000.
    """
    plain = ["".join(c for c in tidy(text).lower() if c.isalnum()) for text in texts]
    same: dict[str, list[int]] = {}
    for index, text in enumerate(plain):
        if len(text) >= _SHINGLE:
            same.setdefault(text, []).append(index)
    distinct = list(same)
    pieces = [_shingles(text) for text in distinct]
    numbers = [re.findall(r"\d+(?:\.\d+)?", tidy(texts[same[text][0]])) for text in distinct]
    pairs = [
        (i, j, 1.0) for group in same.values() for n, i in enumerate(group) for j in group[n + 1 :]
    ]
    for a, b in _candidates(pieces):
        if numbers[a] != numbers[b]:
            continue
        shared = np.intersect1d(pieces[a], pieces[b], assume_unique=True).size
        alike = shared / (pieces[a].size + pieces[b].size - shared)
        if alike >= threshold:
            pairs += [
                (min(i, j), max(i, j), alike) for i in same[distinct[a]] for j in same[distinct[b]]
            ]
    return sorted(pairs)


def _shingles(text: str) -> NDArray[np.uint64]:
    count = len(text) - _SHINGLE + 1
    return np.unique(
        np.array(
            [zlib.crc32(text[i : i + _SHINGLE].encode()) for i in range(count)], dtype=np.uint64
        )
    )


def _candidates(pieces: Sequence[NDArray[np.uint64]]) -> list[tuple[int, int]]:
    """Pairs that agree in one band of min-hashes."""
    rng = np.random.default_rng(0)
    factor, offset = rng.integers(1, _PRIME, (2, _BANDS * _BAND_ROWS, 1), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, piece in enumerate(pieces):
        least = ((piece % _PRIME * factor + offset) % _PRIME).min(axis=1)
        for band, hashes in enumerate(least.reshape(_BANDS, _BAND_ROWS)):
            buckets.setdefault((band, hashes.tobytes()), []).append(index)
    return sorted(
        {(a, b) for found in buckets.values() for n, a in enumerate(found) for b in found[n + 1 :]}
    )

"""Encoding damage: mended where the bytes prove what the text was, named where they are lost.

Text written in utf-8 and read as latin-1 or gbk (or the other way round) keeps its bytes. A repair
is made only if a whole run of such characters turns back into bytes that are sound text.
"""

from __future__ import annotations

import re

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# What Windows shows for the bytes 0x80 to 0x9f, which latin-1 leaves invisible.
_CP1252 = {
    bytes([n]).decode("cp1252"): n
    for n in range(0x80, 0xA0)
    if n not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_SINGLE = "\x80-\xff" + "".join(_CP1252)  # each of them is one byte
_SINGLES = re.compile(f"[{_SINGLE}]{{2,}}")
_TAIL = "\x80-\xbf" + "".join(_CP1252)
_UTF8 = re.compile(rb"(?:[\xe2-\xe9\xef][\x80-\xbf]{2})+")  # Chinese characters and stops
_LOST: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile("\ufffd"), "a replacement character stands where text was"),
    (re.compile("锟斤|斤拷|烫{3,}|屯{3,}|锘"), "filler of a failed conversion"),
    (re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]"), "a character for private use"),
    (re.compile("[\ud800-\udfff]"), "half of a character"),
    (re.compile("[\ufdd0-\ufdef\ufffe\uffff\x80-\x84\x86-\x9f]"), "a character that is none"),
    # "考虑转移???" is a person's doubt; a lost text has no words before or more of the marks.
    (re.compile(r"\?{4,}|(?<![\w)）])\?{3}"), "question marks where text was"),
    (
        re.compile(f"(?:[\xc2-\xf4][{_TAIL}]{{1,3}}){{2,}}"),
        "utf-8 read as latin-1, with bytes lost",
    ),
    (re.compile("[\xa1-\xff]{4,}"), "gbk read as latin-1, with bytes lost"),
    (re.compile("[\uff66-\uff9f]{3,}"), "gbk read as Japanese"),
)


def mend(text: str) -> str:
    """The text with runs of garbled characters turned back where their bytes prove them.

    Each run is exchanged whole or left alone; a text that is sound stays exactly as it is.
    """
    if text.isascii():
        return text
    text = _SINGLES.sub(lambda m: _as_single_bytes(m[0]) or m[0], text)
    return _NOT_ASCII.sub(lambda m: _as_gbk(m[0]) or m[0], text)


def damage(text: str) -> str | None:
    """What is wrong with the characters of a text that `mend` could not mend, or None."""
    for pattern, what in _LOST:
        if pattern.search(text):
            return what
    for run in _NOT_ASCII.findall(text):
        data = _gbk_bytes(run)
        if data is None or not _rare(run):
            continue
        # Sound Chinese has three such sequences on end by chance once in millions of characters.
        found = max((len(m) // 3 for m in _UTF8.findall(data)), default=0)
        if found >= 3 or (found == 2 and 3 * _rare(run) >= len(run)):
            return "utf-8 read as gbk, with bytes lost"
    return None


def _as_single_bytes(run: str) -> str | None:
    """A run of latin-1 or Windows-1252 characters as the utf-8 or gbk that it was, or None."""
    data = bytes(_CP1252.get(c, ord(c) & 0xFF) for c in run)
    try:
        text = mend(data.decode("utf-8"))  # it may have happened twice
        return text if all(map(_plausible, text)) else None
    except UnicodeDecodeError:
        pass
    if len(run) < 4:  # two signs such as ±° are a pair of gbk bytes by chance
        return None
    try:
        text = data.decode("gb2312")
    except UnicodeDecodeError:
        return None
    return text if any("\u4e00" <= c <= "\u9fff" for c in text) else None


def _as_gbk(run: str) -> str | None:
    """A run of Chinese characters as the utf-8 that it was, or None."""
    data = _gbk_bytes(run)
    if data is None or not _rare(run):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(map(_plausible, text)) and _rare(text) < _rare(run) else None


def _plausible(character: str) -> bool:
    """Whether a report can hold it: Chinese, western letters, signs; no other script."""
    western = "\xa0" <= character <= "\xff" or character in _CP1252
    return western or (character.isprintable() and _gbk_bytes(character) is not None)


def _gbk_bytes(text: str) -> bytes | None:
    try:
        # Windows' gbk has the byte 0x80 for the euro sign, Python's has none.
        return b"".join(b"\x80" if c == "€" else c.encode("gbk") for c in text)
    except UnicodeEncodeError:
        return None


def _rare(text: str) -> int:
    """Characters beyond the 7,000 of gb2312: garbled text is full of them."""
    count = 0
    for character in text:
        try:
            character.encode("gb2312")
        except UnicodeEncodeError:
            count += 1
    return count

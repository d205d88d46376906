"""Encoding damage: mended where the bytes prove what the text was, named where they are lost.

Text written in utf-8 and read as latin-1 or gbk (or the other way round) keeps its bytes. A repair
is made only if a whole run of such characters turns back into bytes that are sound text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# What Windows shows for the bytes 0x80 to 0x9f, which latin-1 leaves invisible.
_CP1252 = {
    bytes([n]).decode("cp1252"): n
    for n in range(0x80, 0xA0)
    if n not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TAIL = "\x80-\xbf" + "".join(_CP1252)
_SINGLES = re.compile(f"[{_TAIL}\xc0-\xff]+")  # each of them is one byte
_LETTERS = re.compile("[\xc0-\xd6\xd8-\xf6\xf8-\xff]")
_UTF8 = re.compile(rb"(?:[\xe2-\xe9\xef][\x80-\xbf]{2})+")  # Chinese characters and stops
_BIG5 = re.compile("[\u3105-\u3129﹛﹜﹝]")  # what the stops of gbk are in big5
_OTHER = (
    "\u0180-\u02af\u0300-\u036f\u0400-\u07ff\u3041-\u30fa"  # neither Chinese nor western nor Greek
)
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
    (_BIG5, "gbk read as big5"),
    (
        re.compile(f"(?s)[{_OTHER}].*[{_OTHER}]"),
        "letters of other scripts",
    ),
)


def mend(text: str) -> str:
    """The text with garbled characters turned back where their bytes prove them.

    One run that turns back into sound text proves what happened. All others that look garbled must
    then turn back as well: half a repair would hide the rest. Otherwise, and if nothing is proven,
    the text stays exactly as it is.
    """
    if text.isascii():
        return text
    for mended in (_mended(text, *method) for method in _METHODS):
        if mended is not None:
            return mended
    return text


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


def _mended(
    text: str,
    runs: re.Pattern[str],
    turn_back: Callable[[str], str | None],
    proves: Callable[[str, str], bool],
    garbled: Callable[[str], object],
) -> str | None:
    """The text with all runs turned back, None if none is a proof or one stays garbled."""
    pieces, end, proven = [], 0, False
    for match in runs.finditer(text):
        run = match[0]
        new = turn_back(run)
        if new is None:
            if garbled(run):
                return None
            new = run
        else:
            proven = proven or proves(run, new)
        pieces += [text[end : match.start()], new]
        end = match.end()
    return "".join([*pieces, text[end:]]) if proven else None


def _single_bytes(run: str) -> bytes:
    return bytes(_CP1252.get(c, ord(c) & 0xFF) for c in run)


def _latin_to_utf8(run: str) -> str | None:
    try:
        text = mend(_single_bytes(run).decode("utf-8"))  # it may have happened twice
    except UnicodeDecodeError:
        return None
    return text if all(map(_plausible, text)) else None


def _latin_to_gbk(run: str) -> str | None:
    try:
        return _single_bytes(run).decode("gb2312")
    except UnicodeDecodeError:
        return None


def _gbk_to_utf8(run: str) -> str | None:
    data = _gbk_bytes(run)
    try:
        text = None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text is not None and all(map(_plausible, text)) else None


def _big5_to_gbk(run: str) -> str | None:
    for encoding in ("cp950", "big5"):
        try:
            return run.encode(encoding).decode("gb2312")
        except UnicodeError:
            continue
    return None


def _plausible(character: str) -> bool:
    """Whether a report can hold it: Chinese, western letters, signs; no other script."""
    western = "\xa0" <= character <= "\xff" or character in _CP1252
    return western or (character.isprintable() and _gbk_bytes(character) is not None)


def _gbk_bytes(text: str) -> bytes | None:
    try:
        # Windows' gbk has the byte 0x80 for the euro sign and pairs for private use, Python's none.
        pairs = [b"\x80" if c == "€" else c.encode("gb18030") for c in text]
    except UnicodeEncodeError:
        return None
    return b"".join(pairs) if all(len(pair) < 3 for pair in pairs) else None


def _rare(text: str) -> int:
    """Characters beyond the 7,000 of gb2312: garbled text is full of them."""
    count = 0
    for character in text:
        try:
            character.encode("gb2312")
        except UnicodeEncodeError:
            count += 1
    return count


def _is_garbled_latin(run: str) -> object:
    return len(run) > 1 and _LETTERS.search(run)


# Of each: the runs, how one is turned back, whether that proves it, and what may not be left.
# Two signs such as ±° are a pair of gbk bytes by chance, four are not.
_METHODS: tuple[
    tuple[
        re.Pattern[str],
        Callable[[str], str | None],
        Callable[[str, str], bool],
        Callable[[str], object],
    ],
    ...,
] = (
    (_SINGLES, _latin_to_utf8, lambda run, new: run != new, _is_garbled_latin),
    (_SINGLES, _latin_to_gbk, lambda run, new: len(run) >= 4 and new != "", _is_garbled_latin),
    (_NOT_ASCII, _gbk_to_utf8, lambda run, new: _rare(run) > _rare(new), _rare),
    (_NOT_ASCII, _big5_to_gbk, lambda run, new: bool(_BIG5.search(run)), bool),
)

"""Names in Latin letters: behind labels and titles, before degrees, and pinyin as ZHANG San.

Each pattern's group `found` is the name. Names of diseases and signs have none of these beside
them, so eponyms stay.
"""

# ruff: noqa: SIM905, E501 - patterns and lists of words are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator

from ctscribe.reports.surnames import NOT_NAMES_EN, PINYIN_SURNAMES, SYLLABLES

_UP, _LOW = "A-ZÀ-ÖØ-Þ", "A-Za-zÀ-ÖØ-öø-ÿ"
_PARTICLE = r"(?:(?:van|von|der|den|de|la|le|del|di|da|dos|bin|ibn|al|el|ter|ten)[ ]){1,3}"
_WORD = rf"(?:[{_UP}][{_LOW}'’\-]{{1,24}}|(?!M\.D|D\.O|R\.N)(?:[{_UP}]\.){{1,3}}(?![{_LOW}])|[{_UP}](?![{_LOW}.]))"
_NAME = rf"(?:{_PARTICLE})?{_WORD}(?:,?[ ](?:{_PARTICLE})?{_WORD}){{0,4}}"
_PLAIN = rf"(?:{_PARTICLE})?{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{0,3}}"
_ROLE = r"(?:physician|doctor|provider|radiologist|clinician|consultant|surgeon|reader|typist|transcriptionist|radiographer|technologist)"
_BY = (
    r"(?:reported|dictated|interpreted|reviewed|verified|signed|read|transcribed|approved|performed"
    r"|requested|referred|ordered|prepared|authenticated|finali[sz]ed|confirmed|supervised|checked)"
)
_TITLE = r"(?:Dr|DR|Mr|Mrs|MRS|Ms|Miss|Prof|PROF|Professor|Doctor|Nurse|Sir|Madam)"
_TITLED = rf"(?:{_TITLE}\.?[ ]{{1,2}}){{0,2}}"
_LABELLED = re.compile(
    r"(?<![A-Za-z])(?i:(?:patient|pt)(?:'s)?(?:[ ]name)?|(?:full[ ]|last[ ]|first[ ]|family[ ]|given[ ]|sur)?name"
    rf"|(?:electronically[ ])?{_BY}(?:[ ]by)?|(?:co-?)?sign(?:ed|ature|atory)"
    rf"|(?:(?:referring|attending|ordering|reporting|requesting|consulting|reading|responsible|treating|primary)[ ])?{_ROLE}"
    r"|attending|resident|fellow|technician|author|subject|(?:primary[ ])?care[ ]provider|contact|emergency[ ]contact|next[ ]of[ ]kin|re|attn|cc|to)"
    rf"(?:[ ]\d)?(?:[ \t]{{0,2}}[:=|]|[ ]-|[ ]is)[ \t]{{0,6}}{_TITLED}(?P<found>{_NAME})"
)
_AFTER_BY = re.compile(
    rf"\b(?i:(?:electronically[ ])?{_BY}[ ]by|(?:discussed|reviewed|shared|consulted)[ ]with"
    r"|(?:communicated|called|reported|conveyed|relayed|notified)[ ]to|under|signed)[ ]"
    rf"{_TITLED}(?P<found>{_PLAIN})"
)
_AFTER_TITLE = re.compile(rf"\b{_TITLE}\b\.?[ ]{{1,2}}(?:{_TITLE}\.?[ ])?(?P<found>{_PLAIN})")
_AFTER_PATIENT = re.compile(
    rf"\b(?:[Pp]atient(?:,| is| was| named)?|This is)[ ]{{1,2}}(?P<found>{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{1,3}})"
)
_AFTER_REGARDS = re.compile(
    rf"\b(?:regards|sincerely|faithfully|truly),?\s{{1,3}}(?P<found>{_PLAIN})"
)
_BEFORE_NUMBER = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}[ ]{_PLAIN}),?[ ][(]?(?:(?:MRN|ID)[ #:]{{0,3}})?\[(?:ID|编号)\]"
)
_AFTER_ROLE = re.compile(
    rf"\b(?:{_ROLE}|secretary|coordinator|receptionist|nurse|assistant|resident|fellow|colleague),?[ ]"
    rf"(?P<found>{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{1,3}})"
)
_DEGREE = r"(?:M\.?D\.?|D\.?O\.?|Ph\.?D\.?|R\.?N\.?|MBBS|FRCR|FRCP|MBChB|MRCP|NP|PA-C|R\.?T\.?)(?![A-Za-z])"
_BEFORE_DEGREE = re.compile(rf"(?<![{_LOW}'\-])(?P<found>{_PLAIN}),?[ ]{_DEGREE}")
_BEFORE_AGE = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}[ ]{_PLAIN})(?:,| is| was)?[ ](?:an?[ ])?\d{{1,3}}[- ](?:years?|y/?o)\b"
)
_SURNAME_FIRST = re.compile(
    r"\b(?P<surname>[A-Z]{2,9}),?[ ](?P<given>[A-Z][a-z]{1,12}(?:-[A-Za-z]{2,6})?)\b"
)
# Upper-case words that are pinyin surnames too.
_WORDS = frozenset("HE SHE YOU AN DA MO LONG FAN PAN TAN SUN TU QI AI JI".split())


def latin_names(text: str) -> Iterator[tuple[int, int]]:
    """Names in Latin letters, as far as something beside them says so."""
    for pattern in (
        _LABELLED,
        _AFTER_BY,
        _AFTER_TITLE,
        _AFTER_PATIENT,
        _AFTER_ROLE,
        _AFTER_REGARDS,
    ):
        for match in pattern.finditer(text):
            length = _leading_name(match["found"].removesuffix("'s"))
            if length and not (pattern is _AFTER_BY and length == 1):
                yield match.start("found"), match.start("found") + length
    for pattern in (_BEFORE_DEGREE, _BEFORE_AGE, _BEFORE_NUMBER):
        for match in pattern.finditer(text):
            start = _trailing_name(match["found"])
            if start is not None:
                yield match.start("found") + start, match.end("found")
    for match in _SURNAME_FIRST.finditer(text):
        surname = match["surname"]
        if surname in _WORDS or surname.capitalize() not in PINYIN_SURNAMES:
            continue
        if _is_pinyin(match["given"]):
            yield match.span()


def _leading_name(found: str) -> int:
    """Length of the name at the start: up to the first word that no name holds."""
    end = 0
    for _, stop, is_name in _words(found):
        if not is_name:
            break
        end = stop
    return end


def _trailing_name(found: str) -> int | None:
    """Where the name at the end starts: after the last word that no name holds."""
    start: int | None = None
    for begin, _, is_name in _words(found):
        start = None if not is_name else begin if start is None else start
    return start


def _words(found: str) -> list[tuple[int, int, bool]]:
    """(start, end, whether names hold it) of each word; He beside Lian is a surname."""
    words = list(re.finditer(r"[^\s,]+", found))
    held = []
    for index, word in enumerate(words):
        beside = [w[0] for w in words[max(0, index - 1) : index + 2] if w is not word]
        surname = word[0].capitalize() in PINYIN_SURNAMES and any(map(_is_pinyin, beside))
        held.append((*word.span(), surname or not _is_word(word[0])))
    return held


def _is_word(word: str) -> bool:
    plain = word.rstrip(".")
    return (len(plain) > 1 and plain.capitalize() in NOT_NAMES_EN) or plain in NOT_NAMES_EN - {
        "A",
        "I",
    }


def _is_pinyin(given: str) -> bool:
    letters = given.lower().replace("-", "")
    return letters in SYLLABLES or any(
        letters[:i] in SYLLABLES and letters[i:] in SYLLABLES for i in range(1, len(letters))
    )

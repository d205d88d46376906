"""Every statement of a report about any finding: thirty kinds, denied ones too, with all it says.

The one reader of reports. Sentence by sentence: words that matter (`tokens`), what each negation
covers (`scope`), which places and sizes belong to which finding (`binding`), and the statements of
each (`stating`). `labeller` keeps the five findings that the model has heads for, and all that is
scored or trained rests on those; who splits, balances and checks data reads the others too.

What counts as one statement: one finding at one place; "双肺" and "the lungs" are both lungs, two
statements. A denial takes the place that its own clause names. A finding without a place of its own
takes the one before it. Nodes, bones and other organs have a side only where one alone is named.
"双肺未见异常" denies an "abnormality". Advice, conditions, history, family history and technique
state nothing; a finding of the prior is stated only where the text says what became of it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ctscribe.reports.binding import EACH, stretches
from ctscribe.reports.context import blank_unread
from ctscribe.reports.doubt import doubted_heads
from ctscribe.reports.ellipsis import (
    placed_anew,
    rest_of_lungs,
    spelled_out,
    without_emphasis,
    without_nature,
    without_unnamed,
)
from ctscribe.reports.language import detect_language
from ctscribe.reports.lexicon import Token
from ctscribe.reports.listed_sizes import with_listed_sizes
from ctscribe.reports.schema import Language, Statement
from ctscribe.reports.scope import denied_tokens, sentences
from ctscribe.reports.sections import section_spans
from ctscribe.reports.segments import place_segment
from ctscribe.reports.sharing import (
    compared,
    completed,
    once,
    said_where,
    shared_amount,
    shared_change,
    shared_density,
)
from ctscribe.reports.spelling import respelled
from ctscribe.reports.stating import Sentence, statements_of, with_lent_places
from ctscribe.reports.tokens import tokenize


def statements(text: str, language: Language | None = None) -> list[Statement]:
    """What the findings and the impression of a report state, in the order of the text.

    language: of the text; found from its characters if not given. Never raises.
    """
    language = language or detect_language(text)
    text, at = respelled(text, language)
    found: list[Statement] = []
    for section, section_start, section_end in _read_spans(text):
        open_ended: list[int] = []  # which statements the next sentence may complete
        for start, end in sentences(text, section_start, section_end):
            asked = text[end : end + 1] in ("?", "？")
            asking = _ASKING.search(text, max(0, start - 6), start) is not None
            last = found[-1].finding if found and found[-1].section == section else ""
            if asked and _QUESTION.match(text, start):  # the clinic's
                continue
            spoken = _read(text[start:end], language, asked, asking, last)
            if not spoken:
                for i in open_ended:
                    found[i] = completed(found[i], text[start:end], language)
                continue
            if found and found[-1].section == section:
                spoken = [_in_lung_before(s, found[-1]) for s in spoken]
            first = len(found)
            found += [
                replace(s, start=s.start + start, end=s.end + start, section=section)
                for s in spoken
            ]
            open_ended = [i for i in range(first, len(found)) if found[i].start == found[-1].start]
            open_ended = [i for i in open_ended if not found[i].negated]
    return [replace(s, start=at(s.start), end=at(s.end)) for s in found]


def _in_lung_before(one: Statement, last: Statement) -> Statement:
    """A statement of "S2" alone, put into the lung of the sentence before it."""
    if one.segment is None or one.side or last.side is None:
        return one
    side, lobe, segment = place_segment(last.side, None, one.segment)
    return replace(one, side=side, lobe=lobe, segment=segment)


def _read_spans(text: str) -> list[tuple[str, int, int]]:
    """(section, start, end) of what is read: "病史：…；目前双肺未见…" ends with a finding."""
    spans = []
    for section, start, end in section_spans(text):
        if section in ("findings", "impression"):
            spans.append((section, start, end))
        elif section == "history":
            now = _NOW_SEEN.search(text, start, end)
            if now:
                spans.append(("findings", now.end(), end))
    return spans


# The image's words: "目前胸痛", "目前无气胸症状" stay history.
_NOW_SEEN = re.compile(
    r"[；;。]\s*(?:目前|现|本次|此次|今日?|胸部CT|CT)(?:胸部)?(?:CT)?(?:检查|平扫)?(?:所?示|提示|显示)?[:：]?"
    r"(?=[双两右左][侧]?(?:肺|胸)[^，,。；;]{0,8}?(?:未见|可见|见))"
)


def _clause_before(text: str, denial: Token, tokens: list[Token]) -> list[int]:
    """Indices of the clause before a denial's own, if its own speaks of no finding."""
    comma = max(text.rfind(stop, 0, denial.start) for stop in "，,")
    if comma < 0 or any(t.kind == "finding" and comma < t.start < denial.start for t in tokens):
        return []
    before = max(text.rfind(stop, 0, comma) for stop in "，,")
    return [i for i, t in enumerate(tokens) if before < t.start < comma]


def _read(
    sentence: str, language: Language, asked: bool, asking: bool, before: str
) -> list[Statement]:
    text, prior, gone_now = blank_unread(sentence, language)
    tokens = with_listed_sizes(text, tokenize(text, language))
    doubts = [t for t in tokens if t.kind == "doubt"]
    sizes_before = [t for t in tokens if t.kind == "before"]
    tokens = [t for t in tokens if t.kind not in ("doubt", "organ", "before")]
    tokens = without_unnamed(text, tokens, language)
    tokens = without_emphasis(text, tokens, language)
    tokens = without_nature(text, tokens, language)
    tokens = rest_of_lungs(text, tokens)
    tokens, left_out = spelled_out(text, tokens, before, language)
    denied = denied_tokens(text, tokens, language)
    gone_words = [
        t
        for t in tokens
        if t.kind not in ("negation", "denial")
        or _GONE_WORD.search(text[t.start : t.end])
        or (t.kind == "denial" and _WAS.search(text, 0, t.start))
    ]
    gone = {gone_words[i].start for i in denied_tokens(text, gone_words, language)}
    for start, end in prior if gone_now else []:
        inside = [i for i, t in enumerate(tokens) if start <= t.start < end]
        denied |= set(inside)
        gone |= {tokens[i].start for i in inside}
    for word in gone_words:
        # "右肺上叶实变，现已吸收": a clause that only says what became of the one before.
        if word.kind == "denial":
            for i in _clause_before(text, word, tokens):
                denied.add(i)
                gone.add(tokens[i].start)
    doubted = doubted_heads(text, tokens, doubts, language, asked)
    if asking:
        doubted |= {t.start for t in [t for t in tokens if t.kind == "finding"][:1]}
    keep = [
        i
        for i, t in enumerate(tokens)
        if t.kind not in ("negation", "denial")
        and not (t.word == "abnormality" and i not in denied)
    ]
    read = Sentence(
        text,
        language,
        words=[tokens[i] for i in keep],
        denied=[i in denied for i in keep],
        negations=[t for t in tokens if t.kind == "negation"],
        gone=gone,
        doubted=doubted,
        before_now=prior,
        each=bool(EACH.search(text) or _EACH_TOO.search(text)),
    )
    spoken: list[Statement] = []
    anew: list[Statement] = []
    for stretch in with_lent_places(stretches(read.words, text, language), read):
        own = compared(statements_of(stretch, read), sizes_before)
        if read.words[stretch.finding].start in left_out:
            anew += own
        else:
            spoken += own
    spoken = placed_anew(spoken, anew) if anew else spoken
    spoken = said_where(spoken)
    return shared_change(once(shared_amount(shared_density(spoken, text), text)), text, read.words)


_QUESTION = re.compile(r"\s*(?:is|are|does|do|did|has|have|can|could|any)\b", re.IGNORECASE)
_ASKING = re.compile(r"(?:^|[\s.;。；])[?？]\s*$")  # "? nodule", not "nodule? Effusion"
_EACH_TOO = re.compile(r"[2-9四五六]枚|\bnodules\b", re.IGNORECASE)
_WAS = re.compile(  # "原左肺结节未见显示"
    r"(?:^|[，,])\s*原(?:有|先|来)?[双两右左][^，,]*$"
    r"|\b(?:previous(?:ly)?|original|prior|former(?:ly)?|earlier|last)\b[^.;]*$",
    re.IGNORECASE,
)
_GONE_WORD = re.compile(
    r"吸收|消失|消退|已不见|不复见|不见了|不到|消散|复张|闭合|未再|显示|本次|此次|今|^现|resol|absorb|disappear|vanish|gone"
    r"|expanded|clear(?:ance|ed|ing)|no\s+(?:longer|more)",
    re.IGNORECASE,
)

"""From one sentence to the tokens that `statements` binds, by the rules of `vocabulary`.

Sizes keep their axes, a segment is put into the place it narrows, and a nodule behind the name of
an organ is that organ's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from ctscribe.reports import lexicon
from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import (
    AMOUNTS,
    OBSERVATIONS,
    SIDES,
    Amount,
    Language,
    Observation,
    Side,
)
from ctscribe.reports.segments import place_segment, segment_name
from ctscribe.reports.then_and_now import then_and_now
from ctscribe.reports.vocabulary import RULES

_ORGANS: dict[str, Observation] = {
    "甲状腺": "thyroid-nodule",
    "乳": "breast-nodule",
    "肾上腺": "adrenal-nodule",
    "肾": "kidney-cyst",
    "肝": "liver-lesion",
    "thyroid": "thyroid-nodule",
    "breast": "breast-nodule",
    "adrenal": "adrenal-nodule",
    "liver": "liver-lesion",
    "hepatic": "liver-lesion",
    "kidney": "kidney-cyst",
}
_CYSTS: dict[str, Observation] = {"liver-lesion": "liver-cyst", "kidney-cyst": "kidney-cyst"}
_CHANGE = ("new", "larger", "smaller", "stable")
_OTHER_SIZE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:层厚|层距|间隔|距[^，,。；;]{0,8}|原[^，,。；;]{0,4}|[上前][次片][^，,。；;]{0,4}"
        r"|先前[^，,。；;]{0,4}"
        r"|由[^，,。；;至到为m]{0,8}|实性(?:成分|部分|核心)[^，,。；;]{0,6}|深度?约?|壁?厚度?约?|壁约?|[增缩减变][大小]了?约?|较[^，,。；;增缩减变大小至到为]{1,8})$"
    ),
    "en": re.compile(
        r"\b(?:prev(?:ious\w*)?|prior|formerly|earlier|before|compared\s+(?:with|to)|thickness|spacing"
        r"|slice\s+interval|"
        r"distance|depth|solid\s+(?:component|core|portion|part))\b(?:(?!measur|is\s+an?\b|are\b|(?:study|scan|CT|exam\w*)\s+at\s+$)[^.;,]){0,16}$"
        r"|[(,]\s*(?:was|were)\s+$|\bsolid\s+component\b[^.;,]{0,80}\bfrom\s+$",
        re.IGNORECASE,
    ),
}
_SIZE_BEFORE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:原[^，,。；;]{0,4}|[上前][次片][^，,。；;]{0,4}|先前[^，,。；;]{0,4}|由[^，,。；;至到为m]{0,8}|较[^，,。；;增缩减变大小至到为]{1,8})$"
    ),
    "en": re.compile(
        r"\b(?:prev(?:ious\w*)?|prior|formerly|earlier|before|compared\s+(?:with|to))\b[^.;,]{0,16}$"
        r"|[(,]\s*(?:was|were)\s+$",
        re.IGNORECASE,
    ),
}
_CORE_THEN = re.compile(r"实性(?:成分|部分)[^，,；;]{0,20}$")  # "实性成分6mm（前次5mm）"
_FROM = re.compile(r"\bfrom\s+(?:about\s+|approximately\s+)?$", re.IGNORECASE)
_PREVIOUSLY = re.compile(rf"\s*(?:{lexicon.EN_PRIOR})", re.IGNORECASE)
_ZH_DIAMETERS = re.compile(
    rf"长径约?({lexicon.NUMBER})\s*({lexicon.UNIT})[，,、]?短径约?({lexicon.NUMBER})\s*({lexicon.UNIT})"
)
_LUNG_CONTEXT: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"肺|胸部|余(?!肋|骨|椎|胸膜|腹)|其他|其它"),
    "en": re.compile(r"\b(?:lungs?|chest|thora\w*|pulmonary|cardiopulmonary)\b|^\W*no\b", re.I),
}
_ZH_SIDE: dict[str, Side] = {"右": "right", "左": "left"}
_AMOUNT = re.compile(r"[少微大]量|少许|中等?量")
_AMOUNTS: dict[str, Amount] = {"少": "small", "微": "small", "大": "large", "中": "moderate"}
_OF_PLACE = re.compile(  # "anterior segment (S3) of the right upper lobe"
    r"(?:\s*\([SB]\d+(?:\+\d+)?\))?"
    r"(?:\s+of\s+(?:the\s+)?(?=\S)|\s+(?=(?:right|left|RUL|RML|RLL|LUL|LLL)\b))",
    re.IGNORECASE,
)
_BOTH: tuple[lexicon.Spot, ...] = tuple((side, None, None) for side in SIDES)
_LUNGS_OWN = re.compile(r"肺[内野叶]?(?:可?见)?(?:多发|散在|弥漫|数枚)?$")
_LIST_END = re.compile("(?:基底|舌)?段")
_BETWEEN = re.compile(r"[\s（(的]*$")
_BEFORE_CODE = re.compile(r"[\s（(，,]*$")  # "LUL, S1+2"


def tokenize(sentence: str, language: Language) -> list[Token]:
    """The tokens of one sentence, in order; a segment is part of the place it narrows."""
    sentence = sentence.translate(lexicon.NARROW)
    pattern, names = RULES[language]
    tokens: list[Token] = []
    for match in pattern.finditer(sentence):
        name = names[int(str(match.lastgroup)[1:])] if match.lastgroup else "skip"
        if name != "skip":
            tokens.extend(_tokens_of(name, match, sentence, language))
    tokens = then_and_now(_one_size(tokens, sentence, language), sentence)
    return _with_segments(_own(tokens, language), sentence, language)


def _tokens_of(
    name: str, match: re.Match[str], sentence: str, language: Language
) -> Iterator[Token]:
    text, (start, end) = match.group(), match.span()
    if name == "size":
        yield from _size(text, start, end, sentence, language)
        return
    if name in _CHANGE or name == "doubt":
        yield Token("change" if name in _CHANGE else "doubt", start, end, word=name)
        return
    if name == "segment":
        if re.fullmatch("[尖前后内外上下]侧?", text):  # of a list, which ends with the whole name
            text = text[0] + _LIST_END.search(sentence, end)[0]  # type: ignore[index]
        yield Token("segment", start, end, word=segment_name(text))
        return
    if name == "organ":
        organ = next(key for key in _ORGANS if key in text.lower())
        sides: set[Side] = {_ZH_SIDE[c] for c in text if c in _ZH_SIDE}
        side = sides.pop() if len(sides) == 1 and not re.search("[双两]", text) else None
        heading = language == "en"
        of_side: tuple[lexicon.Spot, ...] = () if heading else ((side, None, None),)
        yield Token("organ", start, end, _ORGANS[organ], of_side, bound=heading)
        return
    if name == "organ-lobe":  # "甲状腺右叶结节8mm，左叶结节13mm"
        organs = re.findall("甲状腺|肝", sentence[:start])
        if organs:
            side = _ZH_SIDE[text[0]] if organs[-1] == "甲状腺" else None
            yield Token("organ", start, end, _ORGANS[organs[-1]], ((side, None, None),))
        return
    if name == "adenoma":  # a gland's, behind its size
        if re.search("肾上腺|甲状腺", sentence[:start]) and "结节" not in sentence:
            yield Token("finding", start, end, word="nodule")
        return
    if name == "organ-word":
        yield Token(
            "finding", start, end, word="cyst" if re.search("cyst|囊肿", text.lower()) else "lesion"
        )
        return
    if name == "lingula":
        yield Token(
            "place",
            start,
            end,
            "lingula",
            (("left", "LUL", "lingular"),),
            bound=_bound(sentence, start, language),
        )
        return
    if name == "organ-nodule":
        organ = next(key for key in _ORGANS if key in text.lower())
        yield Token("finding", start, end, word=_ORGANS[organ])
        return
    name = "effusion+pericardial-effusion" if name == "both_pericardial" else name
    denied, _, words = name.rpartition(" ")
    if any(word in OBSERVATIONS for word in words.split("+")) and name not in lexicon.FINDING_WORDS:
        if words == "abnormality" and not denied and not re.match("实质|活动|占位", text):
            begin = max(sentence.rfind(stop, 0, start) for stop in "，,") + 1
            if re.match("异常密度", text) and re.search(
                "肺[^，,]*清[晰楚][，,]$", sentence[:begin]
            ):
                begin = 0
            if re.match(r"[双两右左]肺伴.*外", sentence[:start]):  # "双肺除…外，未见异常"
                begin = 0
            if not _LUNG_CONTEXT[language].search(
                sentence[begin:start] + (sentence[start:] if language == "en" else "")
            ):
                return
        if "肿大" in text and "淋巴" not in sentence[:start] + text:
            return
        if denied or re.search(r"未[见及有]|无(?!名)|没有|\bnot?\b", text):
            yield Token("negation", start, start)
        amount = _AMOUNT.search(text)
        in_words = re.search(r"\b(small|moderate|large|trace|minimal)\b", text, re.IGNORECASE)
        if (
            not amount and text.startswith("心包") and "积液" not in text
        ):  # "心包及双侧胸腔少量积液"
            amount = _AMOUNT.search(sentence[end : end + 12])
        if amount and words.endswith("pericardial-effusion"):
            yield Token("amount", start, start, word=_AMOUNTS[amount[0][0]])
        if in_words:
            said = in_words[0].lower()
            yield Token("amount", start, start, word=said if said in AMOUNTS else "small")
        if re.search("可疑|疑似", text):
            yield Token("doubt", start, start, word="doubt")
        yield Token("finding", start, end, word=words)
        return
    if name == "calcified" and (
        re.match("可能|待", sentence[end:])
        or re.search("(?:疑似?|可能|似)[为有呈]?$", sentence[:start])
    ):
        return
    if name == "bases":
        table = lexicon.UPPER if "ap" in text.lower() else lexicon.LOWER
        spots = tuple((side, table[side], None) for side in SIDES)
        yield Token("place", start, end, "tip", spots, bound=_bound(sentence, start, language))
        return
    if name == "thickening":  # "pleural surfaces are smooth with no thickening"
        if re.search(r"\bpleura|胸膜[^，,]*积液[^，,]*$", sentence[:start], re.IGNORECASE):
            yield Token("finding", start, end, word="pleural-thickening")
        return
    if name == "hilum":  # nodes have a side of their own
        if re.search(r"\bmass|\bnodule", sentence, re.IGNORECASE) and "node" not in sentence:
            side = cast(Side, text.split()[0].lower())
            bound = _bound(sentence, start, language)
            yield Token("place", start, end, "side", ((side, None, None),), bound=bound)
        return
    if name == "neither":
        yield Token("negation", start, start)
        yield Token("place", start, end, "side", _BOTH)
        return
    if name == "lungs":  # "clear lungs": the place stands behind what is denied there
        yield Token("place", start, end, "side", _BOTH, bound=True)
        return
    if name == "metastases":  # "双肺多发转移瘤", not what a nodule is taken for
        named = re.search("结节|肿块", sentence[end:])
        if not named and _LUNGS_OWN.search(sentence[max(0, start - 12) : start]):
            yield Token("finding", start, end, word="nodule")
        return
    if name == "side" and language == "en" and "fissure" in text.lower():
        bound = _bound(sentence, start, language)
        yield Token("place", start, end, "side", (("right", None, None),), bound=bound)
        return
    if name == "bone":  # of the thorax alone: a vertebra is none of a rib's
        if re.search("肋|胸廓", sentence[:start]):
            yield Token("finding", start, end, word="rib-lesion")
        return
    yield from lexicon.tokens_of(name, match, sentence, language)


def _size(text: str, start: int, end: int, sentence: str, language: Language) -> Iterator[Token]:
    before = sentence[max(0, start - 40) : start]
    if _OTHER_SIZE[language].search(before) or lexicon.OTHER_SIZE_AFTER.match(sentence, end):
        if _CORE_THEN.search(before):
            return
        if _SIZE_BEFORE[language].search(before) or _PREVIOUSLY.match(sentence, end):
            yield Token("before", start, end, size_mm=lexicon.longest_mm(text))
        return
    if _FROM.search(before) and re.search(r"\bto\b", text):  # "from 12 mm to 8 mm"
        was, text = re.split(r"\bto\b", text, maxsplit=1)
        if re.search(r"[a-z]", was):
            yield Token("before", start, start + len(was), size_mm=lexicon.longest_mm(was))
        start = end - len(text)
    longest = lexicon.longest_mm(text)
    numbers = lexicon.axes_mm(text)
    axes = numbers if re.search(r"[×xX*✕]|\bby\b", text) else (longest,)
    yield Token("size", start, end, size_mm=longest, axes_mm=axes)


def _one_size(tokens: list[Token], sentence: str, language: Language) -> list[Token]:
    """ "长径约8mm，短径约6mm" is one size of two axes."""
    if language == "en":
        return tokens
    for match in _ZH_DIAMETERS.finditer(sentence):
        inside = [t for t in tokens if t.kind == "size" and match.start() <= t.start < match.end()]
        if len(inside) == 2:
            axes = inside[0].axes_mm + inside[1].axes_mm
            whole = Token("size", inside[0].start, match.end(), size_mm=max(axes), axes_mm=axes)
            tokens = [whole if t is inside[0] else t for t in tokens if t is not inside[1]]
    return tokens


def _own(tokens: list[Token], language: Language) -> list[Token]:
    """Whose a finding is: an organ's that stands before it, or a nodule's own calcification."""
    organ: Token | None = None
    head, last, own = "", "", []
    sentence_has_no_nodule = not any(t.word == "nodule" for t in tokens)
    for token in tokens:
        if token.kind == "place":
            organ = organ if organ and organ.bound else None  # of "THYROID:" to the end
            head = ""
        elif token.kind == "organ":
            organ = token
            own.append(token)
            continue
        elif token.kind == "finding":
            if token.word in ("cyst", "lesion"):
                name = organ.word if organ else ""
                name = _CYSTS.get(name, "") if token.word == "cyst" else name
                if name in ("", "kidney-cyst") and token.word == "lesion":
                    continue
                if not name:
                    continue
                lesions = [t for t in own if (t.kind, t.word) == ("finding", "liver-lesion")]
                if name == "liver-cyst" and lesions:  # "LIVER: hypodense lesion, likely a cyst"
                    own = [replace(t, word=name) if t in lesions else t for t in own]
                    continue
                token = replace(token, word=name)
            elif organ and token.word == "nodule":
                if organ.word == "kidney-cyst":
                    continue
                token = replace(token, word=organ.word, spots=organ.spots)
            # "nodule in the RUL, without calcification": the nodule's, whatever place is between.
            lacks = last == "nodule" and own and own[-1].word == "without"
            own_calcium = (head == "nodule" or lacks) and token.word == "calcification"
            last = token.word
            if own_calcium and language == "en":
                token = Token("density", token.start, token.end, word="calcified")
            elif head == token.word == "lymphadenopathy" and language == "en":
                continue  # "adenopathy, largest node 11 mm"
            else:
                head = token.word
        elif token.word == "calcified" and sentence_has_no_nodule and language == "zh":
            token = Token("finding", token.start, token.end, word="calcification")
        own.append(token)
    return own


def _with_segments(tokens: list[Token], sentence: str, language: Language) -> list[Token]:
    """Segments put into the place beside them, or made a place in the last one named."""
    placed: list[Token] = []
    waiting: Token | None = None  # "superior segment of the" before its place
    for token in tokens:
        last = placed[-1] if placed else None
        if token.kind == "segment" and waiting is not None:
            pass  # "(S3)" of "anterior segment (S3) of the": says it twice
        elif token.kind == "segment":
            apart = language == "en" and not _OF_PLACE.match(sentence, token.end)
            between = _BEFORE_CODE if "S" in token.word or apart else _BETWEEN
            bases = next((t.spots for t in reversed(placed) if t.kind == "place"), ())
            joined = (
                last is not None
                and last.kind == "place"
                and all(spot[2] is None for spot in last.spots)
                and between.match(sentence[last.end : token.start])
            )
            nodule = _in_brackets_of(placed, sentence, token)
            if nodule is not None:
                placed[nodule] = _narrowed(
                    placed[nodule], token.word, placed[nodule].start, placed[nodule].end
                )
            elif joined and last is not None:
                placed[-1] = _narrowed(last, token.word, last.start, token.end)
            elif language == "en" and _OF_PLACE.match(sentence, token.end):
                waiting = token
            elif last is not None and last.kind == "place" and last.spots[0][2] == token.word:
                placed[-1] = _narrowed(last, token.word, last.start, token.end)
            elif (
                last is not None
                and last.kind == "place"
                and _BETWEEN.match(sentence[last.end : token.start])
            ):
                placed[-1] = replace(last, end=token.end)  # "背段（S6）" says it twice
            else:
                spots = tuple(dict.fromkeys((side, lobe, token.word) for side, lobe, _ in bases))
                bound = _bound(sentence, token.start, language)
                placed.append(
                    Token(
                        "place",
                        token.start,
                        token.end,
                        "segment",
                        spots or ((None, None, token.word),),
                        bound=bound,
                    )
                )
        elif token.kind == "place" and waiting is not None:
            bound = _bound(sentence, waiting.start, language)
            for i in range(len(placed) - 1, -1, -1):  # "segments S3 and S6 of the left lung"
                listed = placed[i].word == "segment" and placed[i].spots[0][:2] == (None, None)
                if not listed or not re.search(r"(?:,|and|&)\s*$", sentence[: waiting.start]):
                    break
                own = _narrowed(token, str(placed[i].spots[0][2]), placed[i].start, placed[i].end)
                placed[i] = replace(own, word="segment", bound=placed[i].bound)
            placed.append(
                Token(
                    "place",
                    waiting.start,
                    token.end,
                    token.word,
                    _narrowed(token, waiting.word, 0, 0).spots,
                    bound=bound,
                )
            )
            waiting = None
        elif (
            last is not None
            and last.kind == "place"
            and (token.kind, token.spots) == (last.kind, last.spots)
            and _BETWEEN.match(sentence[last.end : token.start])
        ):  # "左肺下叶（LLL）"
            closed = re.match(r"[）)]", sentence[token.end :])
            placed[-1] = replace(last, end=token.end + (closed is not None))
        elif (
            token.word == "lingula"
            and last is not None
            and last.spots == (("left", "LUL", None),)
            and re.fullmatch(r"\s*,\s*", sentence[last.end : token.start])
        ):  # "LUL, lingula"
            placed[-1] = replace(last, end=token.end, spots=token.spots)
        else:
            placed.append(token)
    return placed


def _in_brackets_of(placed: list[Token], sentence: str, segment: Token) -> int | None:
    """Index of the lobe whose nodule has its segment behind it: "右肺上叶结节（5mm，S3）"."""
    places = [i for i, t in enumerate(placed) if t.kind == "place"]
    if not places or any(not lobe or name for _, lobe, name in placed[places[-1]].spots):
        return None
    heads = sum(t.kind == "finding" for t in placed[places[-1] :])
    opened = re.search(r"[（(][^（()）]*$", sentence[placed[places[-1]].end : segment.start])
    return places[-1] if heads == 1 and opened else None


def _narrowed(place: Token, segment: str, start: int, end: int) -> Token:
    spots = tuple(
        # The implied lobe at once: a lung beside one of its lobes is taken to say nothing more.
        (side, lobe or (place_segment(side, None, segment)[1] if side else None), segment)
        for side, lobe, _ in place.spots
    )
    return Token("place", start, end, place.word, spots, bound=place.bound)


def _bound(sentence: str, start: int, language: Language) -> bool:
    return lexicon.BOUND[language].search(sentence[max(0, start - 60) : start]) is not None
